#!/usr/bin/env python
# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Draw the gain of each method of a study against the force of its losses.

Rows are named METHOD_RATIO, as those of configs/studies/ham10000_64_zoo.py; a
panel a family, a line a method, 95 % intervals.

python tools/dev/study_ratios.py work_dirs/ham10000_64_zoo/results.json \
    --out docs/results/zoo/ratios.svg
"""

import argparse
import json
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(Path(__file__).resolve().parent))


def gains(results: Path, baseline: str) -> dict[str, dict[float, list[float]]]:
    """Method -> ratio -> gain over the baseline, and its interval's two ends.

    Args:
        results: the ``results.json`` of ``tools/compare.py``.
        baseline: the name of a row.
    """
    found: dict[str, dict[float, list[float]]] = {}
    for row in json.loads(results.read_text())['rows']:
        name = re.fullmatch(r'(.+)_(\d+(?:\.\d+)?)', row['name'])
        against = row.get('against', {}).get(baseline)
        if name and against and name[1] != baseline:
            points = found.setdefault(name[1], {})
            points[float(name[2])] = [against[key] for key in ('mean', 'low', 'high')]
    return found


def draw(found: dict[str, dict[float, list[float]]], baseline: str, path: Path) -> None:
    """Write a panel a family as an SVG."""
    import matplotlib

    matplotlib.use('svg')
    import matplotlib.pyplot as plt
    from zoo_table import zoo_method

    from hkd_mm.config.networks import config_root

    panels: dict[str, dict] = {}
    for name, points in found.items():
        method = zoo_method(config_root() / 'zoo' / name)
        panels.setdefault(method['family'], {})[method['title']] = points
    figure, axes = plt.subplots(
        1,
        len(panels),
        figsize=(3.6 * len(panels), 3.4),
        sharey=True,
        squeeze=False,
        layout='constrained',
    )
    for axis, (family, methods) in zip(axes.flat, panels.items()):
        seen = sorted({ratio for points in methods.values() for ratio in points})
        axis.axhline(0, color='grey', linewidth=0.8)
        for place, (title, points) in enumerate(methods.items()):
            shift = 1 + 0.03 * (place - (len(methods) - 1) / 2)
            ratios = sorted(points)
            middle, low, high = zip(*(points[ratio] for ratio in ratios))
            errors = [
                [m - end for m, end in zip(middle, low)],
                [end - m for m, end in zip(middle, high)],
            ]
            axis.errorbar(
                [ratio * shift for ratio in ratios],
                middle,
                errors,
                marker='o',
                markersize=3,
                linewidth=1,
                elinewidth=0.6,
                label=title,
            )
        axis.set_xscale('log')
        axis.set_xticks(seen, [f'{ratio:g}' for ratio in seen])
        axis.minorticks_off()
        axis.set_title(family, fontsize=9)
        axis.legend(fontsize=6)
    figure.supxlabel("force in multiples of the cross-entropy's", fontsize=8)
    figure.supylabel(f'gain in balanced accuracy over {baseline}', fontsize=8)
    figure.savefig(path, metadata={'Date': None})


def main(argv=None) -> None:
    """Read the results, write the figure."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('results', type=Path)
    parser.add_argument('--baseline', default='alone')
    parser.add_argument('--out', type=Path, required=True)
    args = parser.parse_args(argv)
    found = gains(args.results, args.baseline)
    if not found:
        parser.error(f'{args.results} has no rows METHOD_RATIO against {args.baseline}')
    draw(found, args.baseline, args.out)


if __name__ == '__main__':
    main()
