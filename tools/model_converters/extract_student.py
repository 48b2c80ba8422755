# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Write the plain mmpretrain student of a distillation checkpoint."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from hkd_mm.cli import run_tool


def parse_args(argv=None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description='Write the plain mmpretrain student of a checkpoint: no '
        'teacher, connectors or optimizer. mmengine.runner.load_checkpoint '
        'reads the file into the plain classifier.'
    )
    parser.add_argument('checkpoint', help='.pth of a distillation run')
    parser.add_argument('out', help='.pth to write')
    return parser.parse_args(argv)


def run(args: argparse.Namespace) -> None:
    """Do the work."""
    from hkd_mm.engine.student_export import export_student

    meta = export_student(args.checkpoint, args.out)
    classes = ', '.join(meta['classes'] or ['unknown classes'])
    print(f'{args.out}: student of epoch {meta.get("epoch", "?")} ({classes})')


def main(argv=None) -> int:
    """Parse, then import what does the work."""
    return run_tool(run, parse_args(argv))


if __name__ == '__main__':
    sys.exit(main())
