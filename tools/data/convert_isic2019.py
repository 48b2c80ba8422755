# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Put a download of the ISIC 2019 training set into one layout."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from hkd_mm.cli import run_tool

KIND, OUT = 'ISIC2019', 'data/isic2019'
EPILOG = (
    'Downloads: https://challenge.isic-archive.com/data/#2019 (training '
    'input, ground truth and metadata). Licence of the images: CC BY-NC '
    '4.0. Safe to run twice.'
)


def main(argv=None) -> int:
    """Parse, then import what does the work."""
    from hkd_mm.data_tools.convert import parse_args, run

    return run_tool(run, KIND, parse_args(argv, OUT, __doc__, EPILOG))


if __name__ == '__main__':
    sys.exit(main())
