# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""A run stopped at any moment keeps what it needs to go on."""

import os
import uuid

import pytest
from mmengine.config import Config
from mmengine.evaluator import BaseMetric
from mmengine.runner import Runner

from hkd_mm.io.atomic_files import AtomicBackend
from hkd_mm.io.checkpoints import find_damage, safe_load


class Scripted(BaseMetric):
    """A balanced accuracy for each epoch, as the test wants it."""

    default_prefix = ''

    def __init__(self, values):
        super().__init__(prefix='script')
        self.prefix, self.values, self.runner = None, values, None
        self.seen = []

    def process(self, data_batch, data_samples):
        self.results += [0] * len(data_samples)

    def compute_metrics(self, results):
        self.seen.append(self.runner.epoch)
        return dict(balanced_accuracy=self.values[self.runner.epoch - 1])


def run(path, work_dir, scores, resume=False, epochs=None, keep=-1, broken=()):
    """Train with scripted scores; (runner, metric, files)."""
    cfg = Config.fromfile(path)
    cfg.work_dir, cfg.resume = str(work_dir), resume
    cfg.experiment_name = uuid.uuid4().hex
    cfg.train_cfg.max_epochs = epochs or len(scores)
    cfg.default_hooks.checkpoint.type = 'hkd_mm.SafeCheckpointHook'
    cfg.default_hooks.checkpoint.max_keep_ckpts = keep
    runner = Runner.from_cfg(cfg)
    metric = Scripted(scores)
    runner.val_loop.evaluator.metrics = [metric]
    metric.runner = runner
    save = runner.save_checkpoint

    def save_or_break(out_dir, filename, *args, **kwargs):
        if filename in broken:
            raise KeyboardInterrupt
        save(out_dir, filename, *args, **kwargs)

    runner.save_checkpoint = save_or_break
    if broken:
        with pytest.raises(KeyboardInterrupt):
            runner.train()
    else:
        runner.train()
    return runner, metric, {p.name for p in work_dir.glob('*.pth')}


@pytest.fixture
def config(tiny_configs):
    return tiny_configs['student']


def test_only_the_best_and_the_newest_are_kept(config, tmp_path):
    _, _, files = run(config, tmp_path / 'run', [0.1, 0.5, 0.3, 0.2], keep=1)
    assert files == {'epoch_4.pth', 'best_balanced_accuracy_epoch_2.pth'}
    for name in files:
        assert find_damage(tmp_path / 'run' / name) is None


def test_a_kill_before_the_new_best_is_written_keeps_the_old(config, tmp_path):
    new = 'best_balanced_accuracy_epoch_2.pth'
    _, _, files = run(config, tmp_path / 'run', [0.1, 0.5, 0.3], broken=[new])
    assert 'best_balanced_accuracy_epoch_1.pth' in files and new not in files
    # what the kill prevented is made up for, and the outcome is the same
    _, metric, files = run(config, tmp_path / 'run', [0.1, 0.5, 0.3], resume=True)
    assert metric.seen == [2, 3]
    assert new in files and 'best_balanced_accuracy_epoch_1.pth' not in files


def test_a_kill_before_the_next_epoch_is_written_keeps_the_last(config, tmp_path):
    _, _, files = run(
        config, tmp_path / 'run', [0.5, 0.1, 0.1], keep=1, broken=['epoch_2.pth']
    )
    assert 'epoch_1.pth' in files


def test_resuming_notes_a_new_best_in_the_checkpoint(config, tmp_path):
    new = 'best_balanced_accuracy_epoch_2.pth'
    run(config, tmp_path / 'run', [0.1, 0.5], broken=[new])
    run(config, tmp_path / 'run', [0.1, 0.5], resume=True)
    hub = safe_load(tmp_path / 'run' / 'epoch_2.pth')['message_hub']
    assert os.path.basename(hub['runtime_info']['best_ckpt']) == new


def test_a_missing_best_gives_way_and_is_told(config, tmp_path, caplog):
    folder = tmp_path / 'run'
    run(config, folder, [0.9, 0.2])
    os.remove(folder / 'best_balanced_accuracy_epoch_1.pth')
    runner, _, files = run(config, folder, [0.9, 0.2, 0.3], resume=True)
    assert 'best_balanced_accuracy_epoch_3.pth' in files
    log = next(folder.glob(f'*/{runner.timestamp}.log')).read_text()
    assert 'best_balanced_accuracy_epoch_1.pth is gone' in log


def test_half_written_files_are_cleared_away(config, tmp_path):
    folder = tmp_path / 'run'
    folder.mkdir()
    (folder / '.epoch_1.pth.123.part').write_bytes(b'half')
    (folder / 'notes.txt').write_text('mine')
    runner, _, _ = run(config, folder, [0.1])
    assert not list(folder.glob('.*.part'))
    assert (folder / 'notes.txt').exists()
    hook = next(h for h in runner.hooks if type(h).__name__ == 'SafeCheckpointHook')
    assert isinstance(hook.file_backend._backend, AtomicBackend)
