#!/usr/bin/env python
# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Draw validation curves of a study: the mean over its seeds and the range.

python tools/dev/study_curves.py work_dirs/ham10000_64 --out FOLDER
"""

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))


def curves(work_dir: Path, metric: str) -> dict[str, dict[str, list[float]]]:
    """Title of a row -> name of the seed's folder -> value of each epoch.

    Args:
        work_dir: of ``tools/compare.py``.
        metric: a name of the validation.
    """
    from hkd_mm.experiments.study import read_plan

    plan = read_plan(work_dir)
    found: dict[str, dict[str, list[float]]] = {}
    for row in plan.study.rows:
        for path in sorted(work_dir.glob(f'seed*/{row.name}/history.json')):
            epochs = json.loads(path.read_text())
            values = [round(epoch['val'][metric], 4) for epoch in epochs]
            seed = path.parent.parent.name
            found.setdefault(row.title, {})[seed] = values
    return found


def draw(found: dict[str, dict[str, list[float]]], metric: str, path: Path):
    """Write small multiples, one a row, as an SVG."""
    import matplotlib

    matplotlib.use('svg')
    import matplotlib.pyplot as plt
    import numpy as np

    columns = 3
    lines = -(-len(found) // columns)
    figure, axes = plt.subplots(
        lines,
        columns,
        figsize=(9, 2.3 * lines),
        sharex=True,
        sharey=True,
        squeeze=False,
        layout='constrained',
    )
    for axis in axes.flat[len(found) :]:
        axis.set_visible(False)
    for axis, (title, seeds) in zip(axes.flat, found.items()):
        shortest = min(map(len, seeds.values()))
        values = np.array([v[:shortest] for v in seeds.values()])
        epochs = np.arange(1, shortest + 1)
        axis.fill_between(epochs, values.min(0), values.max(0), alpha=0.2)
        axis.plot(epochs, values.mean(0))
        axis.set_title(f'{title} ({len(values)} seeds)', fontsize=8)
        axis.grid(alpha=0.3)
    figure.supxlabel('epoch', fontsize=8)
    figure.supylabel(f'{metric.replace("_", " ")}, validation', fontsize=8)
    figure.savefig(path, metadata={'Date': None})


def main(argv=None) -> None:
    """Write ``curves.json`` and ``curves.svg``."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('work_dir', type=Path)
    parser.add_argument('--out', type=Path, required=True)
    parser.add_argument('--metric', default='balanced_accuracy')
    args = parser.parse_args(argv)
    found = curves(args.work_dir, args.metric)
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / 'curves.json').write_text(json.dumps(found, indent=1) + '\n')
    draw(found, args.metric, args.out / 'curves.svg')


if __name__ == '__main__':
    main()
