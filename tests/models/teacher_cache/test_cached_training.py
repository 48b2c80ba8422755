# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Cached and online distillation are the same training."""

import errno
import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.runner import Runner

from hkd_mm.config.compose import load_config
from hkd_mm.errors import UserError
from hkd_mm.models.teacher_cache.teacher_cache import CacheDeclined, flatten
from hkd_mm.training.fill_teacher_cache import build_teacher_cache


@pytest.fixture
def kd(tiny_configs, quick_runner):
    """``kd(**options) -> Runner`` of the tiny pair on packed images."""
    path = tiny_configs['kd']
    text = path.read_text().replace(
        'custom_hooks = [',
        "custom_hooks = [dict(type='hkd_mm.TeacherCacheHook'), ",
    )
    path.write_text(text)
    torch.manual_seed(5)
    cfg = load_config(tiny_configs['teacher'])
    from mmengine.registry import MODELS, init_default_scope

    init_default_scope('mmpretrain')
    teacher = MODELS.build(cfg.model)
    teacher.init_weights()
    torch.save(dict(state_dict=teacher.state_dict()), 'teacher.pth')

    def build(folder, **options):
        from tiny import forget_runs

        forget_runs()
        cfg = load_config(
            path,
            {
                'packed': True,
                'max_epochs': 4,
                'model.teacher_ckpt': 'teacher.pth',
                **options,
            },
        )
        cfg.work_dir = folder
        return Runner.from_cfg(cfg)

    return build


def losses(runner):
    """Run and collect the losses of each iteration, and teacher forwards."""
    found, calls = [], []
    model = runner.model
    model.teacher.register_forward_hook(lambda *_: calls.append(1))
    step = model._run_forward

    def spy(data, mode):
        result = step(data, mode)
        if mode == 'loss':
            found.append({k: v.item() for k, v in result.items()})
        return result

    model._run_forward = spy
    runner.train()
    return found, len(calls)


@pytest.mark.parametrize(
    'alpha, beta', [(1.0, 0.0), (0.85, 0.0), (1.0, 0.02), (0.85, 0.02)]
)
def test_cached_losses_are_the_online_ones(kd, alpha, beta):
    key = 'model.distiller.distill_losses.loss_hybrid'
    weights = {f'{key}.alpha': alpha, f'{key}.beta': beta}
    online, all_calls = losses(kd('online', **{'packed.num_views': 2}, **weights))
    cache = {'model.teacher_cache': dict(num_views=2)}
    filled, filling_calls = losses(kd('filling', **cache, **weights))
    read, reading_calls = losses(kd('reading', **cache, **weights))
    steps = len(online)
    assert steps == 4 * 3 and all_calls == steps
    assert filling_calls == steps // 2 + 1  # two views, and one for shapes
    # shapes, and a check: the teacher takes no step any more
    assert reading_calls == 1 + 1
    assert read == filled  # bit for bit
    for one, two in zip(online, filled, strict=True):
        assert set(one) == set(two)
        for name in one:
            assert two[name] == pytest.approx(one[name], rel=2e-3), name


@pytest.mark.parametrize('dtype', [None, 'bfloat16'])
def test_what_is_stored_already_makes_no_difference(kd, dtype):
    """Nothing, all, a random part of each batch, or by another seed."""
    cache = {
        'model.teacher_cache': dict(num_views=2),
        'model.teacher_inference.dtype': dtype,
        'max_epochs': 2,
    }
    seed = {'randomness.seed': 7}
    filled, _ = losses(kd('a', **cache))
    (folder,) = Path('work_dirs/teacher_cache').iterdir()
    done = np.memmap(folder / 'done.u8', 'uint8', 'r+')
    assert done.all()
    done[np.random.default_rng(0).random(len(done)) < 0.3] = 0
    partly, calls = losses(kd('b', **cache))
    assert partly == filled
    assert 1 + 1 < calls and done.all()
    shutil.rmtree(folder)
    losses(kd('c', **cache, **seed))
    assert losses(kd('d', **cache))[0] == filled


def test_a_bf16_teacher_has_a_cache_of_its_own(kd):
    cache = {'model.teacher_cache': dict(num_views=1), 'max_epochs': 1}
    exact, _ = losses(kd('exact', **cache))
    half = {**cache, 'model.teacher_inference.dtype': 'bfloat16'}
    filled, _ = losses(kd('filling', **half))
    read, calls = losses(kd('reading', **half))  # checked on opening
    assert calls == 1 + 1
    assert len(list(Path('work_dirs/teacher_cache').iterdir())) == 2
    for one, two, three in zip(exact, filled, read, strict=True):
        assert two != one
        for name in one:
            assert two[name] == pytest.approx(one[name], rel=0.05), name
            assert three[name] == two[name], name


def test_a_cached_teacher_takes_no_part_in_the_runs_autocast(kd):
    model = kd('run', **{'model.teacher_cache': dict(num_views=1)}).model
    images = torch.randn(2, 3, 16, 16)
    exact = model.teacher_records(images)
    with torch.autocast('cpu', torch.bfloat16):
        mixed = model.teacher_records(images)
        model.teacher_cache.declined = 'it did not fit'  # online
        half = model.teacher_records(images)
    for name in exact:
        assert torch.equal(exact[name], mixed[name]), name
        assert not torch.equal(exact[name], half[name].float()), name


def test_a_budget_that_is_too_small_leaves_the_teacher_online(kd):
    online, _ = losses(kd('online', **{'packed.num_views': 2}))
    cache = dict(num_views=2, budget_gb=1e-7)
    found, calls = losses(kd('run', **{'model.teacher_cache': cache}))
    assert calls == len(found) + 1
    assert found == online  # the views repeat all the same
    assert not Path('work_dirs/teacher_cache').exists()
    said = declined('run')
    assert '2 views take 6.92e-05 GiB, more than the 1e-07 GiB of' in said
    assert 'it would fit with model.teacher_cache.budget_gb=0.1' in said
    assert 'views repeat after 2 epochs' in said


def test_what_would_fit_is_computed(kd, monkeypatch):
    disk = SimpleNamespace(free=2**31 + 45000)  # bytes, 2 GiB are not for it
    monkeypatch.setattr('shutil.disk_usage', lambda place: disk)
    losses(kd('run', **{'model.teacher_cache': dict(num_views=2)}))
    said = declined('run')
    assert 'that the disk of work_dirs/teacher_cache has to spare' in said
    assert 'fewer views: model.teacher_cache.num_views=1' in said
    one = {'model.teacher_cache': dict(num_views=1)}
    _, calls = losses(kd('fits', **one))
    assert calls == 1 + 3


def test_a_disk_that_is_full_all_of_a_sudden_is_one_line(kd, monkeypatch):
    def full(*args):
        raise OSError(errno.EDQUOT, 'Disk quota exceeded')

    monkeypatch.setattr('os.posix_fallocate', full)
    found, calls = losses(kd('run', **{'model.teacher_cache': dict(num_views=2)}))
    assert calls == len(found) + 1
    assert 'FOLDER on a larger disk' in declined('run')
    assert not any(Path('work_dirs/teacher_cache').iterdir())


@pytest.mark.parametrize(
    'records, said',
    [
        ([torch.zeros(4 * 3, 5)], 'one row of numbers an image'),  # windows
        ([torch.zeros(3, 5)] * 2, '2 records a forward'),
        ([(torch.zeros(3, 2), 'place')], 'one row of numbers an image'),
        ([torch.zeros(3, dtype=torch.int64)], 'one row of numbers an image'),
    ],
)
def test_records_without_a_row_an_image_are_declined(records, said):
    with pytest.raises(CacheDeclined, match=said):
        flatten(dict(feature=records), 3)


def test_another_teacher_or_augmentation_gets_another_folder(kd):
    cache = {'model.teacher_cache': dict(num_views=2), 'max_epochs': 1}
    losses(kd('a', **cache))
    losses(kd('b', **cache, **{'packed.seed': 7}))
    weights = torch.load('teacher.pth')
    weights['state_dict']['head.fc.bias'] += 1e-3
    torch.save(weights, 'teacher.pth')
    losses(kd('c', **cache))
    headers = [
        json.loads(path.read_text())['parts']
        for path in Path('work_dirs/teacher_cache').glob('*/header.json')
    ]
    assert len(headers) == 3
    assert len({h['teacher'] for h in headers}) == 2
    assert len({h['augmentation'] for h in headers}) == 2


def test_entries_that_the_teacher_would_not_say_are_refused(kd):
    cache = {'model.teacher_cache': dict(num_views=1), 'max_epochs': 1}
    losses(kd('a', **cache))
    folder = next(Path('work_dirs/teacher_cache').iterdir())
    logits = np.memmap(folder / 'logits.bin', 'float32', 'r+')
    logits += 1.0
    logits.flush()
    _, calls = losses(kd('b', **cache))  # checksums: it fills again
    assert calls == 1 + 3
    log = next(Path('b').glob('*/*.log')).read_text()
    assert '18 MORE DID NOT MATCH THEIR CHECKSUMS' in log
    logits += 1.0
    logits.flush()
    # a forger who knows of checksums
    from hkd_mm.models.teacher_cache import CacheFile

    header = json.loads((folder / 'header.json').read_text())
    arrays = {k: (tuple(s), d) for k, (s, d) in header['arrays'].items()}
    forged = CacheFile(folder, header['parts'], arrays, 1, header['num_rows'])
    rows = forged.entries()[:, 1]
    values = forged.read(0, rows)
    shutil.copytree(folder, 'copy')
    for file in folder.glob('*.*8'):
        file.write_bytes(bytes(file.stat().st_size))
    CacheFile(folder, header['parts'], arrays, 1, header['num_rows']).write(
        0, rows, values
    )
    with pytest.raises(UserError, match='logits of view 0 differs by 1'):
        losses(kd('c', **cache))


@pytest.mark.parametrize(
    'options, said',
    [
        ({'packed': False}, 'packed=True'),
        (
            {'packed.augment': [dict(type='hkd_mm.Mixup')]},
            'Mixup and CutMix .* packed.partners=split',
        ),
    ],
)
def test_what_no_cache_can_hold_trains_with_the_teacher(kd, options, said):
    cache = {'model.teacher_cache': dict(num_views=1), 'max_epochs': 1}
    found, calls = losses(kd('run', **cache, **options))
    assert calls == len(found) == 3
    assert re.search(said, declined('run'))
    assert not Path('work_dirs/teacher_cache').exists()


MIXED = {
    'packed.partners': 'split',
    'packed.augment': [
        dict(type='hkd_mm.HorizontalFlip'),
        dict(type='hkd_mm.Rotate', degrees=20),
        dict(type='hkd_mm.CutMix', prob=0.5),
        dict(type='hkd_mm.Mixup', own_larger=True),
    ],
    'model.distiller.distill_losses.loss_hybrid.beta': 0.0,  # logits: not rounded
}


def shown(runner):
    """(id, view) -> image of each step, and what :func:`losses` returns."""
    images, model = {}, runner.model
    run = model.run_student

    def spy(batch, samples):
        images.update(
            zip(((i, samples.view) for i in samples.index.tolist()), batch.clone())
        )
        return run(batch, samples)

    model.run_student = spy
    return images, *losses(runner)


def test_cached_losses_of_mixed_views_are_the_online_ones(kd):
    """Bit by bit; also resumed, and the images with another batch size."""
    cache = {**MIXED, 'model.teacher_cache': dict(num_views=2)}
    online = {**MIXED, 'packed.num_views': 2}
    images, wanted, calls = shown(kd('online', **online))
    assert calls == len(wanted) == 4 * 3
    filled, calls = losses(kd('filling', **cache))
    assert filled == wanted and calls == len(wanted) // 2 + 1
    read, calls = losses(kd('reading', **cache))
    assert read == wanted and calls == 1 + 1
    (folder,) = Path('work_dirs/teacher_cache').iterdir()
    shutil.rmtree(folder)  # view 1 is made again, in another process
    rest = dict(load_from='filling/epoch_3.pth', resume=True)
    resumed, calls = losses(kd('resumed', **cache, **rest))
    assert resumed == wanted[9:] and calls == 1 + 3
    options = {'packed': True, 'model.teacher_ckpt': 'teacher.pth', **cache}
    built = build_teacher_cache('tiny_kd.py', options, batch_size=7)
    assert built == dict(folder=str(folder), entries=2 * 18)  # view 1 was there
    others, found, calls = shown(kd('five', **cache, batch_size=5))
    assert calls == 1 + 1 and len(found) == 4 * 4
    assert images.keys() == others.keys() and len(images) == 2 * 18
    for key, image in images.items():
        assert torch.equal(others[key], image), key


def test_two_numbers_of_views_are_refused(kd):
    cache = {'model.teacher_cache': dict(num_views=1)}
    with pytest.raises(UserError, match='packed.num_views=5 and model.teach'):
        losses(kd('run', **cache, **{'packed.num_views': 5}))


def test_a_cache_that_this_run_will_not_read_is_told(kd):
    cache = {'model.teacher_cache': dict(num_views=3), 'max_epochs': 3}
    losses(kd('run', **cache))
    (log,) = Path('run').glob('*/*.log')
    assert '3 epochs show none of 3 views twice' in log.read_text()


def declined(folder):
    """The one line of the log that says why there is no cache."""
    (log,) = Path(folder).glob('*/*.log')
    (line,) = [line for line in log.read_text().splitlines() if 'NO TEACHER' in line]
    return line


def test_a_cache_built_ahead_is_the_one_that_training_reads(kd, tool):
    kd('unused')  # writes the teacher
    options = [
        'packed=True',
        'model.teacher_ckpt=teacher.pth',
        'model.teacher_cache.num_views=2',
    ]
    build = tool('build_teacher_cache')
    for _ in range(2):  # the second time nothing is left to do
        assert (
            build(['tiny_kd.py', '--batch-size', '7', '--cfg-options', *options]) == 0
        )
    (folder,) = Path('work_dirs/teacher_cache').iterdir()
    _, calls = losses(kd('run', **{'model.teacher_cache': dict(num_views=2)}))
    assert calls == 1 + 1
    assert [folder] == list(Path('work_dirs/teacher_cache').iterdir())


def test_building_without_a_teacher_or_cache_says_what_to_set(kd, tool, capsys):
    build = tool('build_teacher_cache')
    assert build(['tiny_kd.py', '--cfg-options', 'packed=True']) == 2
    assert 'set --cfg-options teacher_cache=True' in capsys.readouterr().err
    assert (
        build(
            [
                'tiny_kd.py',
                '--cfg-options',
                'packed=True',
                'model.teacher_cache.num_views=2',
            ]
        )
        == 2
    )
    assert 'model.teacher_ckpt=FILE' in capsys.readouterr().err


KEY = 'model.distiller.distill_losses.loss_hybrid'
AVERAGE = {
    'model.teacher_cache': dict(average='d4'),
    f'{KEY}.alpha': 0.85,
    f'{KEY}.beta': 0.0,
}


def test_one_average_of_eight_views_an_image(kd):
    """Filled when it is opened, then read by every view; views do not repeat."""
    runner = kd('average', **AVERAGE)
    _, calls = losses(runner)
    model, dataset = runner.model, runner.train_dataloader.dataset
    batches = -(-len(dataset) // runner.train_dataloader.batch_size)
    assert calls == 8 * (1 + batches)  # one image for the shapes
    assert model.data_preprocessor.num_views is None
    every = torch.arange(len(dataset))
    batch = dataset.__getitems__(every)
    images = model.data_preprocessor(batch, training=False)['inputs']
    with torch.no_grad():
        turned = [
            model.teacher(images.rot90(turns, (2, 3)).flip(axes), mode='tensor')
            for turns in range(4)
            for axes in ((), (3,))
        ]
    stored = model.teacher_cache.read(dataset.index)['logits']
    torch.testing.assert_close(
        stored, torch.stack(turned).mean(0), rtol=1e-4, atol=1e-5
    )
    _, again = losses(kd('again', **AVERAGE))
    assert again == 8 * 2  # shapes, and the check of some entries


@pytest.mark.parametrize(
    'options, why',
    [
        ({f'{KEY}.beta': 0.02}, 'a loss asks for feature'),
        ({'packed': False}, 'it needs packed images'),
        ({'model.teacher_cache.budget_gb': 1e-9}, 'more than'),
        (
            {'packed.augment': [dict(type='hkd_mm.Mixup')], 'packed.partners': 'split'},
            'leave Mixup and CutMix out',
        ),
    ],
)
def test_an_average_that_cannot_be_is_refused(kd, options, why):
    cfg = {**AVERAGE, **options}
    with pytest.raises(UserError, match=f'average=d4.*{why}'):
        kd('average', **cfg).train()
