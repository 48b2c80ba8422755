# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Make the golden values that our ISIC scores are held against.

Run once, in an environment of its own with ``isic-challenge-scoring`` (5.6.0
was used, with pandas 2), not in that of hkd_mm:
    python tools/dev/isic_golden.py tests/evaluation/data/isic_golden.json
"""

import argparse
import io
import json
from importlib.metadata import version

import numpy as np
from isic_challenge_scoring.classification import (
    ClassificationMetric,
    ClassificationScore,
)

CLASSES = ('MEL', 'NV', 'BCC', 'AKIEC', 'BKL', 'DF', 'VASC')


def main() -> None:
    """Score random predictions of three qualities."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('out')
    args = parser.parse_args()
    random = np.random.default_rng(0)
    cases = [_case(random, 80, quality) for quality in (0.0, 1.0, 4.0)]
    program = 'isic-challenge-scoring'
    made_with = f'{program} {version(program)}'
    found = dict(made_with=made_with, classes=CLASSES, cases=cases)
    with open(args.out, 'w') as stream:
        json.dump(found, stream)
        stream.write('\n')


def _case(random: np.random.Generator, count: int, quality: float) -> dict:
    labels = np.concatenate(
        [np.arange(7), random.choice(7, count - 7, p=[0.2, 0.5] + [0.06] * 5)]
    )
    logits = random.normal(size=(count, 7))
    logits[np.arange(count), labels] += quality
    scores = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    scores = scores.round(5)
    found = ClassificationScore.from_stream(
        io.StringIO(_csv(np.eye(7)[labels])),
        io.StringIO(_csv(scores)),
        ClassificationMetric.BALANCED_ACCURACY,
    )
    return dict(
        labels=labels.tolist(),
        scores=scores.tolist(),
        balanced_accuracy=float(found.aggregate['balanced_accuracy']),
        per_category=found.per_category.to_dict('index'),
        macro_average=found.macro_average.to_dict(),
    )


def _csv(values: np.ndarray) -> str:
    lines = [','.join(('image', *CLASSES))]
    for index, row in enumerate(values):
        cells = ','.join(f'{value:.5f}' for value in row)
        lines.append(f'ISIC_{index:07},{cells}')
    return '\n'.join(lines) + '\n'


if __name__ == '__main__':
    main()
