#!/usr/bin/env python
# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Train a network, or distil a teacher into a student."""

import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from hkd_mm.cli import run_tool


def parse_args(argv=None) -> argparse.Namespace:
    """Read the command line; needs no import but the standard library."""
    parser = argparse.ArgumentParser(
        description='Train a network, or distil a teacher into a student. '
        'Without model.teacher_ckpt the teacher is trained first.'
    )
    parser.add_argument('config', help='config file')
    parser.add_argument(
        '--work-dir',
        help='where the run leaves its files (default: work_dirs/<config>)',
    )
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
        help='go on from this checkpoint; without a path from the latest '
        'intact one of the work dir',
    )
    parser.add_argument(
        '--amp',
        action='store_true',
        help='mixed precision on a GPU: bf16 where it has it, else fp16',
    )
    parser.add_argument(
        '--no-validate',
        dest='validate',
        action='store_false',
        help='do not validate during training',
    )
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help='scale the learning rate to the batch of all processes',
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action='extend',
        metavar='KEY=VALUE',
        help='change values of the config, such as data_root=PATH '
        'max_epochs=10 model.teacher_ckpt=FILE',
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
    return run_tool('hkd_mm.training.trainer:train', **vars(parse_args(argv)))


if __name__ == '__main__':
    sys.exit(main())
