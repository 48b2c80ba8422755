# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""KL and DIST with a curriculum, table 2: EfficientNet-B7 -> MobileNetV2.

alpha over (0.1, 0.3, 0.5, 0.7, 0.9), ISIC 2019; the paper's F1 is weighted
by the size of the classes.

At size small: ResNet-18 -> MobileNetV2 x0.5 on HAM10000 at 64 x 64, 12 epochs
(student alone 24), classes drawn alike as in the paper; the checkpoint is
chosen by balanced accuracy, here as at this size everywhere.
"""
title = 'KL and DIST over alpha, with and without curriculum: table 2'
metrics = ['weighted_f1', 'top1', 'balanced_accuracy', 'macro_f1']
baselines = ['alone']
compared_by = 'top1'

_alphas = (0.1, 0.3, 0.5, 0.7, 0.9)
_percent = dict(  # F1 and accuracy for each alpha
    kl=((73.508, 72.77), (72.31, 71.55), (72.009, 71.15), (71.551, 70.76),
        (71.986, 71.19)),
    dist=((71.292, 71.43), (71.351, 71.47), (71.129, 71.09), (71.292, 71.07),
          (70.665, 70.05)),
    kl_curriculum=((68.508, 67.18), (66.728, 66.71), (66.801, 66.63),
                   (66.896, 66.39), (66.84, 66.31)),
    dist_curriculum=((68.368, 67.18), (68.907, 67.77), (66.14, 65.8),
                     (69.266, 68.36), (69.041, 68.12)))
_titles = dict(
    kl='KL', dist='DIST', kl_curriculum='KL + curriculum',
    dist_curriculum='DIST + curriculum')


def _paper(f1, accuracy):
    return dict(
        weighted_f1=round(f1 / 100, 5), top1=round(accuracy / 100, 4))


rows = dict(
    effb7_isic2019=dict(
        config='curriculum/effb7_isic2019.py', title='teacher',
        tested=False, paper=_paper(77.646, 77.33)),
    alone=dict(
        config='curriculum/mbv2_isic2019.py', title='student alone',
        paper=_paper(72.659, 71.84)))
for _name, _figures in _percent.items():
    for _alpha, _found in zip(_alphas, _figures):
        _losses = 'model.distiller.distill_losses'
        rows[f'{_name}_{_alpha}'] = dict(
            config=f'curriculum/{_name}_effb7_mbv2_isic2019.py',
            title=f'{_titles[_name]}, alpha {_alpha}',
            options={
                f'{_losses}.loss_ce.loss_weight': round(1 - _alpha, 1),
                f'{_losses}.loss_{_name.split("_")[0]}.loss_weight': _alpha},
            after=['effb7_isic2019'],
            paper=_paper(*_found))

_images = {
    'packed': True,
    'packed.store_dir': '{work_dir}/images',
    'class_weight': None}  # in its place classes are drawn alike
_drawn = {**_images, 'sampler': 'balanced'}
_small = dict(
    resnet18=dict(
        config='ham10000_64/resnet18.py',
        title='teacher, ResNet-18 (16 epochs)',
        options={**_drawn, 'max_epochs': 16},
        tested=False,
        paper=rows['effb7_isic2019']['paper']),
    effb7_isic2019=None,
    alone=dict(
        config='ham10000_64/mbv2.py',
        title='student alone (24 epochs)',
        options={
            **_drawn,
            'max_epochs': 24,
            'optim_wrapper.optimizer.lr': 0.02}))
for _name, _row in rows.items():
    if 'after' not in _row:
        continue
    _small[_name] = dict(
        after=['resnet18'],
        options={
            **_row['options'],
            # a curriculum's own sampler draws the classes alike
            **(_images if 'curriculum' in _name else _drawn),
            'pair': 'resnet18_mbv2_ham10000_64',
            'max_epochs': 12,
            'model.teacher_ckpt': '{runs}/resnet18/student.pth',
            'model.teacher_cache.num_views': 12,
            'model.teacher_cache.dir': '{work_dir}/cache'})
sizes = dict(small=dict(
    title='KL and DIST over alpha, HAM10000 at 64 x 64: table 2',
    rows=_small))
