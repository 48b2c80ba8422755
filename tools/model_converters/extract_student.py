# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Write the plain mmpretrain student of a distillation checkpoint."""

import argparse
import os
import sys


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description='Write the plain mmpretrain student of a checkpoint: no '
        'teacher, connectors or optimizer. mmengine.runner.load_checkpoint '
        'reads the file into the plain classifier.'
    )
    parser.add_argument('checkpoint', help='.pth of a distillation run')
    parser.add_argument('out', help='.pth to write')
    return parser.parse_args()


def main() -> int:
    """Convert; 2 for a mistake of the user's."""
    args = parse_args()
    # torch is imported after --help has been answered
    from hkd_mm.engine.student_export import export_student
    from hkd_mm.errors import UserError

    try:
        meta = export_student(args.checkpoint, args.out)
    except (UserError, OSError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    classes = ', '.join(meta['classes'] or ['unknown classes'])
    print(f'{args.out}: student of epoch {meta.get("epoch", "?")} ({classes})')
    return 0


if __name__ == '__main__':
    sys.path.insert(
        0, os.path.abspath(os.path.join(os.path.dirname(__file__), '..', '..'))
    )
    sys.exit(main())
