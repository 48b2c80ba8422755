# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Distil on photographs without labels, then fine-tune with labels."""

import os
import shutil

import pytest
import torch
from mmengine.registry import DefaultScope

from hkd_mm.config.compose import compose_config
from hkd_mm.config.data_summary import build_listing, summarize_data
from hkd_mm.engine.hooks.distill_hooks import _settings
from hkd_mm.errors import UserError
from hkd_mm.io.checkpoints import safe_load, student_state_dict
from hkd_mm.registry import MODELS
from hkd_mm.training.fingerprint import RunFingerprint
from hkd_mm.training.label_checks import check_label_free
from hkd_mm.training.trainer import train

LABEL_FREE = """
_base_ = 'tiny_kd.py'
default_hooks = dict(
    run_report=dict(type='hkd_mm.RunReportHook'),
    teacher_check=dict(type='hkd_mm.TeacherCheckHook'),
    teacher_cache=dict(type='hkd_mm.TeacherCacheHook'))
model = dict(distiller=dict(distill_losses=dict(
    loss_hybrid=None,
    loss_kd=dict(type='hkd_mm.KLLoss', tau=4.0),
    loss_queue=dict(type='hkd_mm.QueueDistillLoss', own=True))))
"""


@pytest.fixture
def pile(tmp_path, write_image):
    """Twenty photographs in folders that name nothing, one of them hidden."""
    for number in range(20):
        folder = tmp_path / 'pile' / ('.old' if number == 0 else f'day {number % 3}')
        write_image(folder / f'{number}.png', seed=number, size=20)
    return tmp_path / 'pile'


@pytest.fixture
def label_free(tiny_configs, tmp_path):
    path = tmp_path / 'label_free.py'
    path.write_text(LABEL_FREE)
    return path


def options(pile, **more):
    root = None if pile is None else str(pile)
    return dict(unlabelled_root=root, max_epochs=1, **more)


@pytest.mark.parametrize('packed', [True, False])
def test_a_run_without_labels_and_fine_tuning_from_it(
    packed, label_free, tiny_configs, pile, quick_runner, tmp_path, capsys
):
    runs, more = tmp_path / 'runs', dict(packed=packed)
    if packed:
        more['teacher_cache'] = dict(num_views=2)
    run = runs / 'label_free'
    done = train(str(label_free), str(run), cfg_options=options(pile, **more))
    said = capsys.readouterr().out
    assert (
        f'19 train, 9 val, 9 test; the train images, without labels, of {pile}' in said
    )
    # the teacher is of the labelled images, and validation too
    teacher = (runs / 'tiny_teacher' / 'run_state.json').read_text()
    assert 'unlabelled' not in teacher
    assert done['chosen_by'] == 'balanced_accuracy' and done['best_score'] is not None
    assert 'Teacher check: accuracy' in said
    assert packed == ('Teacher cache: view 0 is filled' in said)
    saved = safe_load(str(run / 'epoch_1.pth'))
    queue = {
        k.split('.')[-1]: v for k, v in saved['state_dict'].items() if 'queue' in k
    }
    # 19 images: a quarter is 4, a batch 6; three batches of 6 and one image came by
    assert queue['past'].shape == (6, 16) and queue['filled'] == 6
    torch.testing.assert_close(queue['past'].norm(dim=1), torch.ones(6))
    # it goes on with the queue
    train(
        str(label_free),
        str(run),
        resume='auto',
        cfg_options=options(pile, **more) | dict(max_epochs=2),
    )
    assert 'resumed from' in capsys.readouterr().out
    # on these images or not at all
    shutil.copy(pile / 'day 1' / '1.png', pile / 'another.png')
    for other in (pile, None):
        with pytest.raises(UserError, match='was trained with unlabelled_root='):
            train(
                str(label_free),
                str(run),
                resume='auto',
                cfg_options=options(other, **more) | dict(max_epochs=3),
            )
    # fine-tuned with labels, from what is handed on
    student = str(run / 'student.pth')
    tuned = train(
        str(tiny_configs['student']),
        str(runs / 'tuned'),
        cfg_options=dict(
            {'load_from': student, 'optim_wrapper.optimizer.lr': 0.0}, max_epochs=1
        ),
    )
    assert tuned['epoch'] == 1
    before = student_state_dict(safe_load(student))
    after = student_state_dict(safe_load(str(runs / 'tuned' / 'epoch_1.pth')))
    weights = [key for key in before if key.endswith('weight')]
    assert weights
    for key in weights:
        assert torch.equal(before[key], after[key]), key


def summary_of(config, **words):
    return summarize_data(compose_config(str(config), words))


def test_copies_of_validation_and_test_images_are_left_out(
    label_free, pile, tiny_data, capsys
):
    plain = summary_of(label_free)
    shutil.copytree(tiny_data, pile / 'as it came')
    found = summary_of(label_free, unlabelled_root=str(pile))
    held_out = plain.sizes['val'] + plain.sizes['test']
    assert found.sizes['train'] == 19 + 36 - held_out
    assert (found.sizes['val'], found.split_hash) == (
        plain.sizes['val'],
        plain.split_hash,
    )
    assert found.train_counts is None and found.classes == plain.classes
    # a folder of held out images alone
    only = pile.parent / 'only'
    only.mkdir()
    dataset = build_listing(compose_config(str(label_free)), 'val_dataloader')
    shutil.copy(dataset.get_data_info(0)['img_path'], only / 'renamed.png')
    with pytest.raises(UserError, match='all images of unlabelled_root'):
        summary_of(label_free, unlabelled_root=str(only))


@pytest.mark.parametrize('broken', ['missing', 'empty'])
def test_a_folder_without_photographs_is_refused(broken, label_free, tmp_path):
    folder = tmp_path / 'nothing'
    if broken == 'empty':
        folder.mkdir()
    with pytest.raises(UserError, match='unlabelled_root .*nothing'):
        summary_of(label_free, unlabelled_root=str(folder))


NEEDS = {
    'a loss': ({}, 'HybridKDLoss (model.distiller.distill_losses.loss_hybrid)'),
    'own loss': ({'model.calculate_student_loss': True}, 'calculate_student_loss'),
    'sampler': ({'sampler': 'balanced'}, 'sampler=None'),
    'copies': ({'packed.top_up': 'largest'}, 'packed.top_up=None'),
    'force': ({'loss_balance': True}, 'loss_balance'),
}


@pytest.mark.parametrize('need', NEEDS)
def test_what_needs_labels_is_refused_before_anything_is_trained(
    need, label_free, tiny_configs, pile, tmp_path, quick_runner
):
    more, words = NEEDS[need]
    config = tiny_configs['kd'] if need == 'a loss' else label_free
    with pytest.raises(UserError) as refused:
        train(str(config), str(tmp_path / 'run'), cfg_options=options(pile, **more))
    assert words in str(refused.value) and '\n' not in str(refused.value)
    assert f'unlabelled_root={pile}' in str(refused.value)
    assert not (tmp_path / 'tiny_teacher').exists()


def test_the_way_out_works_as_it_is_said(label_free, pile):
    label_free.write_text(LABEL_FREE.replace('loss_hybrid=None,', ''))
    cfg = compose_config(str(label_free), options(pile))
    with pytest.raises(UserError) as refused:
        check_label_free(cfg)
    way = str(refused.value).split('take it out with ')[1].split(', or')[0]
    check_label_free(compose_config(str(label_free), [f'unlabelled_root={pile}', way]))


def test_a_classifier_alone_and_counted_weights_are_refused(
    tiny_configs, label_free, pile, tmp_path, quick_runner
):
    with pytest.raises(UserError, match='ImageClassifier needs labels'):
        train(
            str(tiny_configs['student']),
            str(tmp_path / 'run'),
            cfg_options=options(pile),
        )
    with pytest.raises(UserError, match='class_prior counts the labels'):
        train(
            str(label_free),
            str(tmp_path / 'run'),
            cfg_options=options(
                pile,
                **{
                    'model.distiller.distill_losses.loss_kd': dict(
                        type='hkd_mm.PriorCorrectedKLLoss', class_prior='train'
                    )
                },
            ),
        )


def test_a_queue_as_long_as_the_data_is_refused(label_free, pile, tmp_path):
    key = 'model.distiller.distill_losses.loss_queue.queue'
    with pytest.raises(UserError, match=r'queue=19 .*19 images.* it is 6'):
        train(
            str(label_free),
            str(tmp_path / 'run'),
            cfg_options=options(pile, **{key: 19}),
        )


def test_without_a_loss_on_scores_the_last_layer_is_said_to_be_idle(
    label_free, pile, quick_runner, tmp_path, capsys
):
    key = 'model.distiller.distill_losses.loss_kd'
    label_free.write_text(
        LABEL_FREE.replace(
            'hooks = dict(', "hooks = dict(rails=dict(type='hkd_mm.GuardRailsHook'),"
        )
    )
    run = tmp_path / 'runs' / 'label_free'
    done = train(
        str(label_free),
        str(run),
        validate=False,
        cfg_options=options(pile, **{key: None}),
    )
    said = capsys.readouterr().out
    assert 'its last layer stays as it was drawn' in said
    assert done['best_score'] is None and done['checkpoint'] == 'epoch_1.pth'
    assert 'Teacher check: these images have no labels' in said


def test_mixed_images_need_no_labels_either(
    label_free, pile, quick_runner, tmp_path, capsys
):
    """Function matching: both networks see the mixed image."""
    mixing = {
        'packed': True,
        'packed.augment': [dict(type='hkd_mm.Mixup', alpha=1.0)],
        'packed.partners': 'split',
        'teacher_cache': dict(num_views=2),
    }
    run = tmp_path / 'runs' / 'label_free'
    done = train(str(label_free), str(run), cfg_options=options(pile, **mixing))
    assert done['epoch'] == 1
    assert 'Teacher cache: view 0 is filled' in capsys.readouterr().out


def test_other_photographs_are_another_run(label_free, pile):
    def run(folder=pile):
        cfg = compose_config(str(label_free), options(folder))
        return RunFingerprint.of(cfg, summarize_data(cfg))

    before = run()
    os.symlink(pile, pile.parent / 'link')
    assert run(pile.parent / 'link').digest == before.digest
    shutil.copy(pile / 'day 1' / '1.png', pile / 'another.png')
    after = run().parts['data'], before.parts['data']
    assert after[0]['unlabelled'] != after[1]['unlabelled']


def test_a_loss_may_train_the_last_layer_without_scores(label_free):
    other = LABEL_FREE.replace('KLLoss', 'CATKDLoss').replace('tau=4.0', 'size=1')
    label_free.write_text(other.replace('own=True', 'loss_weight=0.5'))
    cfg = compose_config(str(label_free)).model
    cfg.teacher_cache = None
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        said = ' '.join(_settings(MODELS.build(cfg)))
    assert 'its last layer stays' not in said
