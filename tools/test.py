#!/usr/bin/env python
# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Measure a trained model on the test split."""

import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from hkd_mm.cli import run_tool


def parse_args(argv=None) -> argparse.Namespace:
    """Read the command line; needs no import but the standard library."""
    parser = argparse.ArgumentParser(
        description='Measure a model on the test split, read once. Of a '
        'distillation only the student is built.'
    )
    parser.add_argument(
        'config',
        metavar='RUN_DIR | CONFIG',
        help='work dir of a finished run, whose student is tested on its '
        'data; or a config file, with a checkpoint after it',
    )
    parser.add_argument(
        'checkpoint',
        nargs='?',
        metavar='CHECKPOINT',
        help='of a distillation or of a plain classifier (default: '
        'student.pth of the run)',
    )
    parser.add_argument(
        '--work-dir',
        help='where the log goes, and the results without --out (default: '
        'the log to RUN_DIR/test or work_dirs/<config>/test)',
    )
    parser.add_argument(
        '--out',
        action='append',
        default=[],
        metavar='FILE',
        help='.json: the metrics; .csv or .pkl: the prediction of each image; '
        '.isic.csv: those as a submission to an ISIC challenge; given '
        'several times, one reading writes all (default: test.json and '
        'predictions.csv in the folder of the run)',
    )
    parser.add_argument(
        '--show-dir',
        metavar='FOLDER',
        help='draw the prediction on each image and write it there',
    )
    parser.add_argument(
        '--other-input',
        action='store_true',
        help='test on images of another size, resize rule or normalisation '
        'than those of the training, on purpose',
    )
    parser.add_argument(
        '--amp',
        action='store_true',
        help='mixed precision on a GPU: bf16 where it has it, else fp16',
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action='extend',
        metavar='KEY=VALUE',
        help='change values of the config, such as data_root=PATH '
        'test_dataloader.dataset.split=val',
    )
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='what started the processes',
    )
    parser.add_argument(
        '--local_rank',
        '--local-rank',
        type=int,
        default=0,
        help='set by some launchers',
    )
    args = parser.parse_args(argv)
    os.environ.setdefault('LOCAL_RANK', str(vars(args).pop('local_rank')))
    return args


def main(argv=None) -> int:
    """Parse, then import what does the work."""
    return run_tool('hkd_mm.training.tester:test_and_print', **vars(parse_args(argv)))


if __name__ == '__main__':
    sys.exit(main())
