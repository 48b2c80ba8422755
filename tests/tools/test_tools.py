# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""train.py and test.py from the command line to the files they leave."""

import csv
import json
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import forget_runs

from hkd_mm.engine.hooks.picture_hooks import file_name

ROOT = Path(__file__).parents[2]


def test_flags_of_the_tools_are_frozen():
    shown = {}
    for name in ('train', 'test'):
        done = subprocess.run(
            [sys.executable, str(ROOT / f'tools/{name}.py'), '--help'],
            capture_output=True,
            text=True,
            check=True,
        )
        shown[name] = {
            word.strip('[],')
            for word in done.stdout.split()
            if word.strip('[],').startswith('--')
        }
    common = {
        '--help',
        '--work-dir',
        '--amp',
        '--cfg-options',
        '--launcher',
        '--local_rank',
        '--local-rank',
    }
    assert shown['train'] == common | {
        '--resume',
        '--no-validate',
        '--auto-scale-lr',
    }
    assert shown['test'] == common | {
        '--out',
        '--show-dir',
        '--other-input',
    }


def _metrics(tool, *argv) -> dict[str, float]:
    forget_runs()
    assert tool('test')([*map(str, argv), '--out', 'metrics.json']) == 0
    found = json.loads(Path('metrics.json').read_text())
    assert found.pop('provenance')['images'] > 0
    return found


@pytest.mark.slow
def test_distils_from_nothing_and_tests_like_the_best_validation(
    tiny_configs, tmp_path, tool, quick_runner, capsys
):
    """Teacher stage, student, then val numbers again, by four ways."""
    config, run = tiny_configs['kd'], tmp_path / 'run' / 'kd'
    assert tool('train')([str(config), '--work-dir', str(run)]) == 0
    said = capsys.readouterr().out
    assert 'TEACHER: model.teacher_ckpt is None' in said
    assert said.count('Start: ') == 2 and said.count('Done: ') == 2
    finished = json.loads((run / 'run_state.json').read_text())['result']
    best = run / finished['checkpoint']
    state = torch.load(best, weights_only=False)
    assert not [k for k in state['state_dict'] if 'teacher' in k]
    assert state['meta']['split_hash'] == finished['split_hash']

    val = ['--cfg-options', 'test_dataloader.dataset.split=val']
    again = _metrics(tool, config, best, *val)
    assert again['balanced_accuracy'] == finished['best_score']
    logged = [
        json.loads(line)
        for path in run.glob('*/vis_data/scalars.json')
        for line in path.read_text().splitlines()
    ]
    epoch = int(best.stem.rsplit('_', 1)[1])
    expected = next(
        row for row in logged if row.get('step') == epoch and 'balanced_accuracy' in row
    )
    for key, value in again.items():
        assert value == pytest.approx(expected[key], abs=1e-12), key

    plain = {
        key.removeprefix('architecture.'): value
        for key, value in state['state_dict'].items()
        if key.startswith('architecture.')
    }
    torch.save(dict(state_dict=plain), 'plain.pth')
    assert _metrics(tool, config, 'plain.pth', *val) == again
    assert _metrics(tool, tiny_configs['student'], best, *val) == again
    # the teacher is not needed any more
    for path in (tmp_path / 'run' / 'tiny_teacher').glob('*.pth'):
        path.unlink()
    assert _metrics(tool, config, best, *val) == again


def _untrained(tiny_configs) -> str:
    from mmpretrain.registry import MODELS

    from hkd_mm.config.compose import load_config

    network = MODELS.build(load_config(tiny_configs['student']).model)
    torch.save(dict(state_dict=network.state_dict()), 'network.pth')
    return 'network.pth'


def test_predictions_and_pictures(tiny_configs, tool, quick_runner, capsys):
    argv = [str(tiny_configs['student']), _untrained(tiny_configs)]
    outs = ['--out', 'p.csv', '--out', 'm.json']
    assert tool('test')([*argv, *outs, '--show-dir', 'show']) == 0
    table = capsys.readouterr().out
    assert 'balanced_accuracy' in table and 'Eczema' in table
    rows = list(csv.DictReader(open('p.csv')))
    right = np.mean([row['prediction'] == row['label'] for row in rows])
    assert json.loads(Path('m.json').read_text())['top1'] == right
    assert {row['lesion_id'] for row in rows} == {''}  # folders have none
    assert len(rows) == 9 and len({row['sample_id'] for row in rows}) == 9
    for row in rows:
        scores = [float(row[f'score_{name}']) for name in ('Acne', 'Benign', 'Eczema')]
        assert sum(scores) == pytest.approx(1, abs=1e-5)
        assert row['prediction'] == ('Acne', 'Benign', 'Eczema')[int(np.argmax(scores))]
        assert row['label'].lower() in row['sample_id'].lower()
    right = {
        file_name(row['sample_id']) for row in rows if row['prediction'] == row['label']
    }
    shown = list(Path('show').rglob('*.png'))
    assert len(shown) == 9
    assert {path.stem for path in shown if path.parent.name == 'right'} == (right)
    acne = next(path for path in shown if 'acne' in path.stem)
    pixel = np.asarray(Image.open(acne).resize((1, 1)))[0, 0]
    assert pixel[0] > pixel[1] and pixel[0] > pixel[2]  # red stays red
    forget_runs()
    assert tool('test')([*argv, '--out', 'p.pkl']) == 0
    stored = pickle.loads(Path('p.pkl').read_bytes())
    assert stored['scores'].shape == (9, 3)
    assert stored['confusion'].sum() == 9


def test_training_leaves_the_dumped_config_alone_when_testing(
    tiny_configs, tmp_path, tool, quick_runner
):
    config = str(tiny_configs['student'])
    options = ['--cfg-options', 'max_epochs=1']
    assert tool('train')([config, '--no-validate', *options]) == 0
    run = tmp_path / 'work_dirs' / 'tiny_student'
    dumped = (run / 'tiny_student.py').read_text()
    assert tool('test')([config, str(run / 'epoch_1.pth')]) == 0
    assert (run / 'tiny_student.py').read_text() == dumped
    assert not list(run.glob('best*'))
    assert json.loads((run / 'run_state.json').read_text())['result']['checkpoint'] == (
        'epoch_1.pth'
    )


def test_network_is_not_tested_on_images_it_was_trained_on(
    tiny_configs, tmp_path, tool, quick_runner, capsys
):
    config, run = str(tiny_configs['student']), tmp_path / 'run'
    split = ['split_seed=7', f'split_file={tmp_path}/seven.json']
    config_file = tiny_configs['student']
    config_file.write_text(
        config_file.read_text()
        + "custom_hooks.append(dict(type='hkd_mm.RunReportHook'))\n"
    )
    argv = [config, '--work-dir', str(run), '--cfg-options', *split]
    assert tool('train')([*argv, 'max_epochs=1']) == 0
    for name in ('epoch_1.pth', 'student.pth'):
        forget_runs()
        capsys.readouterr()
        assert tool('test')([config, str(run / name)]) == 2
        assert 'another split' in capsys.readouterr().err
        every = ['--cfg-options', 'test_dataloader.dataset.split=all']
        assert _metrics(tool, config, run / name, *every)['top1'] >= 0
        assert _metrics(tool, config, run / name, '--cfg-options', *split) == _metrics(
            tool, run / config_file.name, run / name
        )


def test_new_run_moves_the_earlier_one_aside(
    tiny_configs, tmp_path, tool, quick_runner, capsys
):
    config, run = str(tiny_configs['student']), tmp_path / 'run'
    argv = [config, '--work-dir', str(run), '--cfg-options', 'max_epochs=1']
    assert tool('train')(argv) == 0
    first = (run / 'epoch_1.pth').read_bytes()
    (run / 'best_balanced_accuracy_epoch_7.pth').write_bytes(b'of long ago')
    (run / 'mine.pth').write_bytes(b'not of a run')
    forget_runs()
    capsys.readouterr()
    # the weights it starts from lie in the folder: they are found all the same
    best = run / 'best_balanced_accuracy_epoch_1.pth'
    assert tool('train')([*argv, f'load_from={best}']) == 0
    said = [x for x in capsys.readouterr().out.splitlines() if 'PREVIOUS' in x]
    aside = run / 'previous_1'
    assert len(said) == 1 and str(aside) in said[0]
    assert (aside / 'epoch_1.pth').read_bytes() == first
    assert (aside / 'best_balanced_accuracy_epoch_7.pth').is_file()
    assert (aside / 'run_state.json').is_file()
    assert (run / 'mine.pth').is_file()
    assert len(list(run.glob('best_*.pth'))) == 1
    forget_runs()
    assert tool('train')([*argv[:-1], 'max_epochs=2', '--resume']) == 0
    assert not (run / 'previous_2').exists()
    assert len(list(run.glob('best_*.pth'))) == 1


def test_auto_scale_lr_scales_by_the_batch(tiny_configs, quick_runner, tmp_path):
    from hkd_mm.training.trainer import train

    train(
        str(tiny_configs['student']),
        auto_scale_lr=True,
        validate=False,
        work_dir='run',
        cfg_options=['max_epochs=1', 'batch_size=3', 'param_scheduler=None'],
    )
    state = torch.load('run/epoch_1.pth', weights_only=False)
    assert state['optimizer']['param_groups'][0]['lr'] == pytest.approx(0.025)


@pytest.mark.parametrize(
    'capability, kind, scaled',
    [((8, 0), 'bfloat16', False), ((7, 0), 'float16', True)],
)
def test_amp_chooses_by_the_gpu(capability, kind, scaled, tiny_configs, monkeypatch):
    from hkd_mm.config.compose import compose_config
    from hkd_mm.training.runtime import use_amp

    monkeypatch.setattr('torch.cuda.get_device_capability', lambda: capability)
    cfg = compose_config(tiny_configs['student'])
    use_amp(cfg, 'cuda')
    assert cfg.optim_wrapper.type == 'AmpOptimWrapper'
    assert cfg.optim_wrapper.dtype == kind
    assert (cfg.optim_wrapper.loss_scale == 'dynamic') is scaled
    assert cfg.optim_wrapper.optimizer.lr == 0.05
