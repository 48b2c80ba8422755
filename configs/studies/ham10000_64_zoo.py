# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""The zoo on HAM10000 at 64 x 64, every method at equal force.

EfficientNet-Lite0 -> the same at width 0.45, both from ImageNet weights, one
recipe for all rows: AdamW in one cycle of `_epochs` epochs, batch 64,
root-balanced class weights, and a learning rate from one search on validation
(configs/sweeps/ham10000_64_zoo.py; docs/results/zoo/sweeps). `loss_balance`
gives every part of a method 0.3, 1 or 3 times the gradient norm of the
cross-entropy. The student alone is trained at every rate in use. One teacher,
that of seed 0.
"""
title = 'The zoo on HAM10000 at 64 x 64, at equal force'
compared_by = 'balanced_accuracy'

_epochs = 4
_rate = 'optim_wrapper.optimizer.lr'
_packed = {'packed.store_dir': '{work_dir}/images', 'max_epochs': _epochs}
_distilled = {
    **_packed,
    'pair': 'effnet_lite0_w045_ham10000_64',
    'model.teacher_ckpt': '{work_dir}/seed0/teacher/student.pth',
    'model.teacher_cache.num_views': _epochs,
    'model.teacher_cache.dir': '{work_dir}/cache'}
_ratios = [0.3, 1, 3]
# the rate of each, chosen on validation at ratio 1
_rates = dict(
    alone=2e-3, kd_hard=4e-3, dkd=4e-3, balanced_softmax=4e-3, fitnets=4e-3,
    vkd=4e-3, rkd=2e-3)
_titles = dict(
    kd_hard='KD + hard label', dkd='DKD',
    balanced_softmax='balanced softmax + KD', fitnets='FitNets', vkd='VkD',
    rkd='RKD')


def _alone(rate):
    return dict(
        config='ham10000_64/effnet_lite0_w045.py',
        title=f'student alone, rate {rate:g}',
        options={**_packed, _rate: rate})


def _method(name, ratio):
    return dict(
        config=f'zoo/{name}/{name}_wrn50_mbv2_skin.py',
        title=f'{_titles[name]}, ratio {ratio:g}',
        options={
            **_distilled, _rate: _rates[name], 'loss_balance': ratio},
        after=['teacher'])


rows = dict(
    teacher=dict(
        config='ham10000_64/effnet_lite0.py',
        title='teacher, EfficientNet-Lite0 (8 epochs)',
        options={**_packed, 'max_epochs': 8},
        tested=False,
        seeds=1),
    alone=_alone(_rates['alone']),
    **{f'alone_{rate:g}': _alone(rate)
       for rate in sorted(set(_rates.values()) - {_rates['alone']})},
    **{f'{name}_{ratio:g}': _method(name, ratio)
       for name in _titles for ratio in _ratios},
)
baselines = ['alone']
