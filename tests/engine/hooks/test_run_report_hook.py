# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""What tiny runs leave behind, whole, interrupted and resumed."""

import json
import uuid

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner, load_checkpoint
from mmpretrain.registry import MODELS

from hkd_mm.engine.environment import command_of, environment_of, versions_of
from hkd_mm.engine.run_summary import History
from hkd_mm.errors import UserError
from hkd_mm.io.checkpoints import safe_load, student_state_dict
from hkd_mm.models.networks.complexity import complexity

LEFT = (
    'environment.json',
    'history.json',
    'metrics.json',
    'curves.png',
    'confusion_matrix.png',
    'student.pth',
)


class Stop(Exception):
    """Stands for a kill."""


class StopHook(Hook):
    def __init__(self, epoch: int, batch: int) -> None:
        self.at = epoch, batch

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if (runner.epoch, batch_idx) == self.at:
            raise Stop


def build(path, work_dir, epochs=2, resume=False, stop=None, **options):
    """A Runner with the report hook on one of the tiny configs."""
    cfg = Config.fromfile(path)
    cfg.data_preprocessor.type = 'ClsDataPreprocessor'
    cfg.work_dir, cfg.resume = str(work_dir), resume
    cfg.experiment_name = uuid.uuid4().hex  # no state shared between runs
    cfg.train_cfg.max_epochs = epochs
    cfg.default_hooks.checkpoint.type = 'hkd_mm.SafeCheckpointHook'
    cfg.default_hooks.checkpoint.max_keep_ckpts = -1
    cfg.custom_hooks = [
        dict(type='hkd_mm.EpochSeedHook'),
        dict(type='hkd_mm.CheckpointGuardHook'),
        dict(type='hkd_mm.RunReportHook'),
    ]
    cfg.merge_from_dict(options)
    runner = Runner.from_cfg(cfg)
    if stop is not None:
        runner.register_hook(StopHook(*stop))
    return runner


def read(folder, name):
    return json.loads((folder / name).read_text('utf-8'))


@pytest.fixture(scope='module')
def kd_run(tiny_data, tmp_path_factory):
    """A distillation of two epochs: (runner, work dir)."""
    import tiny

    folder = tmp_path_factory.mktemp('kd')
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        paths = tiny.write_tiny_configs(folder, tiny_data)
        runner = build(paths['kd'], folder / 'run')
        runner.train()
    return runner, folder / 'run'


def test_everything_is_there(kd_run):
    _, folder = kd_run
    names = {path.name for path in folder.iterdir()}
    assert names.issuperset(LEFT)
    assert 'tiny_kd.py' in names
    assert not any(name.endswith('.part') for name in names)
    for name in ('curves.png', 'confusion_matrix.png'):
        content = (folder / name).read_bytes()
        assert content.startswith(b'\x89PNG') and len(content) > 5000


def test_metrics_json_holds_the_figures_of_the_run(kd_run):
    runner, folder = kd_run
    found, epochs = read(folder, 'metrics.json'), read(folder, 'history.json')
    assert found['config'] == 'tiny_kd.py' and found['seed'] == 42
    assert found['split_hash'] == runner.train_dataloader.dataset.split_hash
    assert [record['epoch'] for record in epochs] == [1, 2]
    scores = [record['val']['balanced_accuracy'] for record in epochs]
    assert found['best']['balanced_accuracy'] == max(scores)
    assert found['best']['epoch'] == 1 + scores.index(max(scores))
    assert found['last']['epoch'] == found['epochs'] == 2
    seconds = sum(record['seconds'] for record in epochs)
    assert found['training_minutes'] == pytest.approx(seconds / 60)
    assert found['images_per_second'] == pytest.approx(2 * 18 / seconds)
    for role in ('student', 'teacher'):
        wanted = complexity(getattr(runner.model, role), 16)
        assert found[role]['parameters'] == wanted['parameters']
        assert found[role]['gflops'] == 2 * wanted['gmacs'] > 0
    size = (folder / found['checkpoint']['file']).stat().st_size
    assert found['checkpoint']['megabytes'] * 1e6 == pytest.approx(size)


def test_loss_parts_are_in_the_history_and_add_up(kd_run):
    _, folder = kd_run
    for record in read(folder, 'history.json'):
        losses = dict(record['train'])
        whole = losses.pop('loss')
        assert len(losses) == 3 and record['images'] == 18
        assert whole == pytest.approx(sum(losses.values()), rel=1e-5)
        assert sum(map(sum, record['confusion'])) == 9


def test_the_student_is_plain_and_that_of_the_best_checkpoint(kd_run):
    runner, folder = kd_run
    # no allow list: nothing but tensors and plain values
    exported = torch.load(folder / 'student.pth', weights_only=True)
    meta = exported['meta']
    assert meta['classes'] == ['Acne', 'Benign', 'Eczema']
    assert meta['split_hash'] == runner.train_dataloader.dataset.split_hash
    assert meta['epoch'] == read(folder, 'metrics.json')['best']['epoch']
    best = safe_load(runner.message_hub.get_info('best_ckpt'))
    wanted = student_state_dict(best)
    assert exported['state_dict'].keys() == wanted.keys()

    plain = MODELS.build(meta['student'])
    load_checkpoint(plain, str(folder / 'student.pth'), strict=True)
    runner.model.student.load_state_dict(wanted)
    image = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(
            plain.eval()(image), runner.model.student.eval()(image), rtol=0, atol=0
        )


def test_checkpoints_know_their_split_and_hold_no_teacher(kd_run):
    runner, folder = kd_run
    for path in folder.glob('*_[0-9].pth'):
        checkpoint = safe_load(path)
        assert (
            checkpoint['meta']['split_hash']
            == runner.train_dataloader.dataset.split_hash
        )
        assert all(
            key.startswith(('architecture.', 'distiller.'))
            for key in checkpoint['state_dict']
        )


def test_environment_names_what_ran(kd_run):
    found = read(kd_run[1], 'environment.json')
    assert (
        found['packages']['torch'] == torch.__version__.split('+')[0]
        or found['packages']['torch'] == torch.__version__
    )
    assert found['cpu_cores'] >= 1 and found['python'].count('.') == 2


def test_a_plain_network_without_validation(tiny_configs, tmp_path):
    runner = build(
        tiny_configs['student'],
        tmp_path / 'run',
        epochs=1,
        val_cfg=None,
        val_dataloader=None,
        val_evaluator=None,
        **{
            'default_hooks.checkpoint.save_best': None,
            'default_hooks.checkpoint.rule': None,
        },
    )
    runner.train()
    found = read(tmp_path / 'run', 'metrics.json')
    assert found['best'] is None and found['last'] is None
    assert 'teacher' not in found
    assert found['checkpoint']['file'] == 'epoch_1.pth'
    assert safe_load(tmp_path / 'run/student.pth')['meta']['input'] == dict(
        size=[16, 16], interpolation='bilinear', steps=[]
    )
    assert not (tmp_path / 'run' / 'confusion_matrix.png').exists()
    state = safe_load(tmp_path / 'run' / 'student.pth')['state_dict']
    for key, value in runner.model.state_dict().items():
        assert torch.equal(state[key], value)


def test_a_resumed_run_tells_the_same_story(tiny_configs, tmp_path):
    whole, parts = tmp_path / 'whole', tmp_path / 'parts'
    build(tiny_configs['kd'], whole, epochs=3).train()
    with pytest.raises(Stop):
        build(tiny_configs['kd'], parts, epochs=3, stop=(2, 1)).train()
    first = read(parts, 'history.json')
    build(tiny_configs['kd'], parts, epochs=3, resume=True).train()

    wanted, found = read(whole, 'history.json'), read(parts, 'history.json')
    assert len(found) == len(wanted) == 3
    for one, other in zip(found, wanted):
        for key in ('epoch', 'train', 'val', 'lr', 'confusion', 'images'):
            assert one[key] == other[key], key
    # the first part's times are kept, and counted
    assert found[0]['seconds'] == first[0]['seconds']
    report = read(parts, 'metrics.json')
    assert report['training_minutes'] * 60 == pytest.approx(
        sum(record['seconds'] for record in found)
    )
    assert report['best'] == read(whole, 'metrics.json')['best']
    for name in ('student.pth', 'epoch_3.pth'):
        one = safe_load(parts / name)['state_dict']
        other = safe_load(whole / name)['state_dict']
        assert all(torch.equal(one[key], other[key]) for key in other)


def test_resuming_from_an_earlier_epoch_drops_the_later_ones(tiny_configs, tmp_path):
    run, other = tmp_path / 'run', tmp_path / 'other'
    build(tiny_configs['student'], run, epochs=2).train()
    # into another folder: the history beside the checkpoint is taken over
    build(
        tiny_configs['student'],
        other,
        epochs=2,
        resume=True,
        load_from=str(run / 'epoch_1.pth'),
    ).train()
    before, after = read(run, 'history.json'), read(other, 'history.json')
    assert [record['epoch'] for record in after] == [1, 2]
    assert after[0]['seconds'] == before[0]['seconds']
    assert after[1]['train'] == before[1]['train']


@pytest.mark.parametrize(
    'text',
    [
        '',
        '[{"epoch": 1, "train": {"lo',
        '{"epoch": 1}',
        '[1, 2]',
        '[{"epoch": "1"}]',
        '[{"epoch": 1, "seconds": "12"}]',
        '[{"epoch": 1, "val": [0.5]}]',
        '[{"epoch": 1, "confusion": [["a"]]}]',
        '[' * 100_000,
        '\0' * 50,
    ],
)
def test_a_damaged_history_is_set_aside_and_the_run_goes_on(tmp_path, text):
    path, told = tmp_path / 'history.json', []
    path.write_text(text)
    history = History(path)
    history.load(3, told.append, tmp_path / 'missing' / 'history.json')
    [line] = told
    assert f'{path}: ' in line and 'begin at epoch 4' in line and '\n' not in line
    assert (tmp_path / 'history.json.damaged').read_text() == text
    assert history.records == {} and not path.exists()
    history.add(4, train=dict(loss=float('nan')), seconds=1.0, lr=0.1)
    again = History(path)
    again.load(4, told.append)
    assert again.ordered() == [dict(epoch=4, train=dict(loss=None), seconds=1, lr=0.1)]
    assert len(told) == 1


def test_a_history_elsewhere_is_taken_over_and_left_alone(tmp_path):
    good, bad, told = tmp_path / 'good.json', tmp_path / 'bad.json', []
    good.write_text('[{"epoch": 1, "seconds": 2}, {"epoch": 2}]')
    bad.write_text('[')
    history = History(tmp_path / 'new' / 'history.json')
    history.load(1, told.append, bad, good)
    assert history.ordered() == [dict(epoch=1, seconds=2)] and not told
    history.load(1, told.append, bad)
    assert str(bad) in told[0] and bad.exists()


@pytest.mark.parametrize(
    'text',
    ['', '[1]', '{"packages": [1]}', '{"gpus": 3}', '{"command": {}}', '[' * 999],
)
def test_a_damaged_environment_is_named(tmp_path, text):
    (tmp_path / 'environment.json').write_text(text)
    with pytest.raises(UserError, match=r'environment\.json: .*move it away'):
        environment_of(tmp_path)


def test_without_an_environment_all_is_unknown(tmp_path):
    found = environment_of(tmp_path)
    assert (versions_of(found), command_of(found)) == ('unknown', 'unknown')


@pytest.fixture(scope='module')
def one_epoch(tiny_data, tmp_path_factory):
    """Configs, and a work dir after one epoch of the student alone."""
    import tiny

    folder = tmp_path_factory.mktemp('one')
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        paths = tiny.write_tiny_configs(folder, tiny_data)
        build(paths['student'], folder / 'run', epochs=1).train()
    return paths, folder / 'run'


TURNED = {
    f'{part}_dataloader.dataset.classes': ['Benign', 'Acne', 'Eczema']
    for part in ('train', 'val')
}
NAMES = 'Acne, Benign, Eczema and the data has Benign, Acne, Eczema'
RESIZE = 'train_dataloader.dataset.pipeline.1'
CROP = dict(type='RandomResizedCrop', scale=16)


@pytest.mark.parametrize(
    'changes, words',
    [
        (
            {f'{part}_dataloader.dataset.seed': 7 for part in ('train', 'val')},
            'was trained on split .*--resume',
        ),
        (TURNED, NAMES),
        ({f'{RESIZE}.scale': 20}, r'size=\[16, 16\] .*has \[20, 20\]'),
        ({f'{RESIZE}.interpolation': 'area'}, 'interpolation=bilinear .*has area'),
        ({'data_preprocessor.mean': [1.0, 2, 3]}, r'mean=\[127.5, .*has \[1.0, 2.0'),
        ({'data_preprocessor.std': [1.0, 2, 3]}, r'std=\[127.5, .*has \[1.0, 2.0'),
        ({'data_preprocessor.to_rgb': False}, 'to_rgb=True .*has False'),
        (
            {'optim_wrapper.optimizer': dict(type='Adam', lr=1, _delete_=True)},
            'another optimizer .momentum .*has betas',
        ),
    ],
)
def test_resuming_on_other_data_is_refused(one_epoch, monkeypatch, changes, words):
    paths, folder = one_epoch
    monkeypatch.chdir(folder.parent)
    runner = build(paths['student'], folder, epochs=2, resume=True, **changes)
    with pytest.raises(UserError, match=words):
        runner.train()


def test_a_network_that_knows_the_classes_in_another_order_is_refused(
    one_epoch, tmp_path, monkeypatch
):
    paths, folder = one_epoch
    monkeypatch.chdir(folder.parent)
    for name, key in (
        ('student', 'load_from'),
        ('kd', 'model.teacher_ckpt'),
        ('kd', 'model.student_ckpt'),
    ):
        file = folder / 'student.pth'
        given = {key: str(file)}
        if key == 'model.teacher_ckpt':
            given['model.teacher'] = Config.fromfile(paths['student']).model
            given['model.teacher']['_delete_'] = True
        runner = build(paths[name], tmp_path / key, epochs=1, **given, **TURNED)
        with pytest.raises(UserError, match=f'{file} .*{NAMES}'):
            runner.train()
