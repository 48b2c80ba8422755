# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Put a download of HAM10000 (or ISIC 2018 task 3) into one layout."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from hkd_mm.cli import run_tool

KIND, OUT = 'HAM10000', 'data/ham10000'
EPILOG = (
    'Downloads: https://doi.org/10.7910/DVN/DBW86T (HAM10000_metadata '
    'and two zip files of images) or https://challenge.isic-archive.com'
    '/data/#2018. Licence of the images: CC BY-NC 4.0. Safe to run '
    'twice.'
)


def main(argv=None) -> int:
    """Parse, then import what does the work."""
    from hkd_mm.data_tools.convert import parse_args, run

    return run_tool(run, KIND, parse_args(argv, OUT, __doc__, EPILOG))


if __name__ == '__main__':
    sys.exit(main())
