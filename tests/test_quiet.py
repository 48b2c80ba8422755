# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""What a user reads is of hkd_mm; the rest is in the log files."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from _demo_images import make_demo_images

from hkd_mm import compat

ROOT = Path(__file__).resolve().parents[1]
CONFIG = 'configs/demo/resnet18_demo.py'
SMALL = ['network=resnet8', 'batch_size=16', 'max_epochs=1']
# how our own lines begin; all others with such a word are upstream's
OURS = re.compile(
    r'warning: |.*- WARNING - (THE TEACHER IS NEAR CHANCE|ONE CLASS ONLY)'
)
NOISE = re.compile(r'warn|deprecat|CastLike|CUDA_HOME', re.IGNORECASE)


def call(*words: object) -> str:
    """Output of a tool, standard and error."""
    ran = subprocess.run(
        [sys.executable, *map(str, words)],
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert ran.returncode == 0, ran.stdout
    return ran.stdout


def noise_in(text: str) -> list[str]:
    return [
        line
        for line in text.splitlines()
        if NOISE.search(line) and not OURS.match(line)
    ]


@pytest.fixture(scope='module')
def told(tmp_path_factory) -> dict[str, str]:
    """Name of a tool -> what it prints, of a run from training to export."""
    place = tmp_path_factory.mktemp('quiet')
    data, run, export = place / 'demo', place / 'run', place / 'export'
    make_demo_images(str(data), 80, workers=1)
    student, root = run / 'student.pth', f'data_root={data}'
    trained = ['tools/train.py', CONFIG, '--work-dir', run]
    kd = ['tools/train.py', 'configs/demo/hybrid_resnet18_mbv2_demo.py', '--work-dir']
    kd += [place / 'kd', '--cfg-options', root, *SMALL[1:], 'teacher=resnet8']
    tested = ['--work-dir', place / 'test', '--cfg-options', root, SMALL[0]]
    exported = ['--out', export, '--with-preprocessing']
    opened = (
        'import onnxruntime, sys\n'
        'for file in sys.argv[1:]: onnxruntime.InferenceSession(file)'
    )
    return dict(
        train=call(*trained, '--cfg-options', root, *SMALL),
        distil=call(*kd, f'model.teacher_ckpt={student}'),
        test=call('tools/test.py', CONFIG, student, *tested),
        export=call('tools/export.py', run, *exported),
        predict=call(
            *('tools/predict.py', data, '--model', export, '--out', place / 'p.csv')
        ),
        onnxruntime=call('-c', opened, *export.glob('*.onnx')),
    )


@pytest.mark.slow
def test_no_tool_hands_on_a_warning_of_upstream(told):
    assert {name: noise_in(text) for name, text in told.items()} == {
        name: [] for name in told
    }


@pytest.mark.slow
def test_a_training_in_a_file_is_news_alone(told):
    for name in ('train', 'distil'):
        lines = told[name].splitlines()
        assert len(lines) < 30, told[name]
        # the split is drawn and the images are packed before
        assert any('Start: data' in line for line in lines[:4])
        assert 'Done: 1 epochs' in lines[-1]
        [epoch] = [line for line in lines if line.startswith('epoch 1 of 1')]
        assert 'balanced_accuracy 0.' in epoch
    assert 'Start: ' in told['test'] and 'Config:' not in told['test']


def test_other_warnings_of_the_same_packages_are_shown():
    told = call(
        '-W',
        'always',
        '-c',
        'import hkd_mm.registry, logging, warnings\n'
        'from mmengine.logging import MMLogger, print_log\n'
        'place = dict(module="mmcv.cnn.bricks.transformer", lineno=33,'
        ' filename="transformer.py", category=UserWarning)\n'
        'warnings.warn_explicit("Fail to import'
        ' ``MultiScaleDeformableAttention`` from x", **place)\n'
        'warnings.warn_explicit("another of mmcv", **place)\n'
        'print_log("\\"FileClient\\" will be deprecated", "current", 30)\n'
        'print_log("another of mmengine", "current", 30)\n'
        'print_log("Loads checkpoint by x", None)\n'
        'print_log("without a logger", None)\n'
        'log = logging.getLogger("torch.utils.cpp_extension")\n'
        'log.warning("No CUDA runtime is found, using CUDA_HOME")\n'
        'log.warning("another of torch")\n',
    )
    for words in (
        'another of mmcv',
        'another of mmengine',
        'without a logger',
        'another of torch',
    ):
        assert words in told, told
    for words in ('MultiScale', 'FileClient', 'Loads', 'CUDA_HOME'):
        assert words not in told, told


def test_silencing_twice_adds_nothing():
    import logging

    logger = logging.getLogger('torch.utils.cpp_extension')
    compat.silence_upstream()
    before = list(logger.filters)
    compat.silence_upstream()
    assert logger.filters == before
