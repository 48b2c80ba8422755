# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""What the runs of a study came to: means, predictions, significance."""

import csv
import math
import statistics
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from hkd_mm.errors import UserError
from hkd_mm.evaluation.classification_scores import answers_one_class
from hkd_mm.evaluation.metric_names import COMPARED_OF_MASKS, OF_MASKS, OF_NETS
from hkd_mm.evaluation.significance import (
    Difference,
    accuracy,
    balanced_accuracy,
    bootstrap_interval,
    holm,
    mean_value,
    paired_difference,
)
from hkd_mm.experiments.plan import (
    Row,
    Study,
    all_runs,
    is_done,
    read_json,
)


@dataclass
class Predictions:
    """What one row's networks said of the test split.

    Args:
        sample_ids: N names.
        groups: N lesions or patients, the sample itself where none is known.
        labels: N class names; empty texts of segmentations.
        chosen: a list of N class names for each seed; of segmentations the
            compared figure of every image.
    """

    sample_ids: list[str]
    groups: list[str]
    labels: list[str]
    chosen: list[list[str] | list[float]]

    @property
    def named_groups(self) -> tuple[list[str], list[str]]:
        """The names of the images, and their groups."""
        return self.sample_ids, self.groups


def read_predictions(by_seed: list[list[Path]], metric: str) -> Predictions:
    """What the networks of a row said, seed by seed.

    Args:
        by_seed: folders of each seed, one a fold.
        metric: that rows are compared by.

    Raises:
        UserError: seeds were tested on other images, or the figures are not
            those of such a network.
    """
    of_slices = metric in COMPARED_OF_MASKS
    group, figure = (
        ('patient', metric) if of_slices else ('lesion_id', 'prediction')
    )
    found: Predictions | None = None
    for folders in by_seed:
        lines = sorted(
            (line for folder in folders for line in _lines(folder)),
            key=lambda line: line['sample_id'],
        )
        ids = [line['sample_id'] for line in lines]
        if found is None:
            _check_columns(folders[0], lines, group, figure)
            groups = [line[group] or line['sample_id'] for line in lines]
            labels = [line.get('label', '') for line in lines]
            found = Predictions(ids, groups, labels, [])
        elif found.sample_ids != ids:
            raise UserError(
                f'{folders[0]}/predictions.csv holds other images than '
                f'{by_seed[0][0]}: the seeds were tested on different splits'
            )
        said = [line[figure] for line in lines]
        found.chosen.append(list(map(float, said)) if of_slices else said)
    assert found is not None
    return found


def _check_columns(folder: Path, lines: list[dict], *wanted: str) -> None:
    for name in wanted:
        if name not in lines[0]:
            raise UserError(
                f'{folder}/predictions.csv has no column {name}: compared_by '
                'of the study is not a figure of such a network'
            )


def _lines(folder: Path) -> list[dict[str, str]]:
    with (folder / 'predictions.csv').open(newline='') as stream:
        return list(csv.DictReader(stream))


def values(labels: list, *values: list) -> list[np.ndarray]:
    """Figures as they are; what stands for the labels is not looked at."""
    return [np.zeros(len(labels), int), *(np.array(v) for v in values)]


def coded(*names: list) -> list[np.ndarray]:
    """Class names as the same whole numbers everywhere."""
    arrays = [np.array(given) for given in names]
    code = np.unique(np.concatenate([array.ravel() for array in arrays]))
    return [np.searchsorted(code, array) for array in arrays]


_SCORES = dict(
    dict.fromkeys(COMPARED_OF_MASKS, mean_value),
    balanced_accuracy=balanced_accuracy,
    top1=accuracy,
)


@dataclass
class MethodResult:
    """A row with its finished seeds.

    Args:
        row: of the study.
        reports: ``metrics.json`` of each run, a seed's folds together.
        tests: ``test.json`` of each run.
        predictions: None where no seed is done.
        milliseconds: that an image takes, NaN if nobody has timed it.
        interval: of the compared metric, 95 %, over other test splits.
        against: baseline -> difference to it.
        adjusted: baseline -> p after Holm's correction.
    """

    row: Row
    reports: list[dict] = field(default_factory=list)
    tests: list[dict] = field(default_factory=list)
    predictions: Predictions | None = None
    milliseconds: float = math.nan
    interval: tuple[float, float] | None = None
    against: dict[str, Difference] = field(default_factory=dict)
    adjusted: dict[str, float] = field(default_factory=dict)

    @property
    def epochs(self) -> int:
        """Of each run."""
        return self.reports[0]['epochs']

    @property
    def minutes(self) -> float:
        """Of training, mean over the runs."""
        return statistics.mean(r['training_minutes'] for r in self.reports)

    def validation(self, metric: str) -> tuple[float, float]:
        """Mean and sample sd over the runs, of the chosen checkpoint.

        NaN where a class that it is of has no image to validate on.
        """
        return spread([r['best'].get(metric, math.nan) for r in self.reports])

    @property
    def has_multiple_groups(self) -> bool:
        """Whether the test images are of more than one patient or lesion."""
        return len(set(self.predictions.groups)) > 1

    @property
    def one_class_runs(self) -> int:
        """How many of its runs predict one class for every test image."""
        return sum(map(answers_one_class, self.tests))

    @property
    def seeds(self) -> list[int]:
        """That its runs were trained with, each once."""
        return list(dict.fromkeys(r.get('seed') for r in self.reports))

    def test(self, metric: str) -> tuple[float, float]:
        """Mean and sample sd over the runs; what is of the network has no sd.

        NaN of a segmentor that has no such figure in one of its runs: one
        that marks nothing has no precision.
        """
        if metric in OF_NETS:
            return self._of_network(metric), math.nan
        return spread([test.get(metric, math.nan) for test in self.tests])

    def _of_network(self, metric: str) -> float:
        """Weights in millions, 1e9 operations, or milliseconds."""
        if metric == 'milliseconds':
            return self.milliseconds
        value = self.reports[0]['student'][metric]
        return value / 1e6 if metric == 'parameters' else value


def read_outcomes(
    study: Study, work_dir: Path, seeds: range, folds: int = 0
) -> list[MethodResult]:
    """Rows all of whose runs are done, compared with the baselines.

    Args:
        study: whose.
        work_dir: of the study.
        seeds: that each row was trained with.
        folds: of a cross-validation; then each photograph has the
            prediction of the network that did not learn from its fold.

    Raises:
        UserError: a file of a run is damaged or lacks a metric, or rows
            were tested on other images.
    """
    outcomes = []
    for row in study.rows:
        of_row = replace(study, rows=(row,))
        folders = [
            run.folder(work_dir) for run in all_runs(of_row, seeds, folds)
        ]
        if all(map(is_done, folders)):
            outcomes.append(
                read_outcome(row, folders, folds, study.compared_by)
            )
    compare_outcomes(outcomes, study)
    return outcomes


def compare_outcomes(outcomes: list[MethodResult], study: Study) -> None:
    """Fill in the intervals, and the differences to the baselines.

    Where all images are of one patient or lesion there are none.

    Raises:
        UserError: rows were tested on other images, lack a metric, or were
            trained with other seeds than their baseline.
    """
    for outcome in outcomes:
        _check_images(outcome, outcomes[0])
        _check_metrics(outcome, study.metrics)
        outcome.interval = (math.nan, math.nan)
    if not outcomes or not outcomes[0].has_multiple_groups:
        return
    for outcome in outcomes:
        outcome.interval = _interval(outcome.predictions, study.compared_by)
    for baseline in study.baselines:
        _compare(outcomes, baseline, study.compared_by)


def spread(values: list[float]) -> tuple[float, float]:
    """Mean and sample standard deviation, NaN of one value or with NaN."""
    mean = statistics.mean(values)
    if len(values) < 2 or math.isnan(mean):
        return mean, math.nan
    return mean, statistics.stdev(values)


def read_outcome(
    row: Row,
    folders: list[Path],
    folds: int = 0,
    compared_by: str = 'balanced_accuracy',
) -> MethodResult:
    """A row from the folders of its finished runs, seed by seed."""
    size = folds or 1
    by_seed = [folders[i : i + size] for i in range(0, len(folders), size)]
    return MethodResult(
        row,
        [read_json(folder / 'metrics.json') for folder in folders],
        [read_json(folder / 'test.json') for folder in folders],
        read_predictions(by_seed, compared_by),
        _milliseconds(folders),
    )


def _milliseconds(folders: list[Path]) -> float:
    """Mean of what ``tools/latency.py --for-report`` has left."""
    found = [
        read_json(folder / 'latency.json')['median_ms']
        for folder in folders
        if (folder / 'latency.json').is_file()
    ]
    return statistics.mean(found) if found else math.nan


def _compare(outcomes: list[MethodResult], baseline: str, metric: str) -> None:
    """Fill in the differences to one baseline."""
    base = next((o for o in outcomes if o.row.name == baseline), None)
    if base is None:
        return
    others = [
        outcome
        for outcome in outcomes
        if outcome is not base and outcome.row.tested
    ]
    for outcome in others:
        _check_seeds(outcome, base)
        outcome.against[baseline] = _difference(outcome, base, metric)
    adjusted = holm([outcome.against[baseline].p for outcome in others])
    for outcome, p in zip(others, adjusted):
        outcome.adjusted[baseline] = p


def _difference(
    outcome: MethodResult, base: MethodResult, metric: str
) -> Difference:
    ours, theirs = outcome.predictions, base.predictions
    code = values if metric in COMPARED_OF_MASKS else coded
    labels, method, baseline = code(ours.labels, ours.chosen, theirs.chosen)
    return paired_difference(
        labels, method, baseline, ours.groups, _SCORES[metric]
    )


def _check_seeds(outcome: MethodResult, base: MethodResult) -> None:
    if outcome.seeds != base.seeds:
        ours, theirs = (
            ', '.join(map(str, one.seeds)) for one in (outcome, base)
        )
        raise UserError(
            f'{outcome.row.name} was trained with seeds {ours} and '
            f'{base.row.name} with {theirs}: differences are paired over '
            'seeds; give both the same ones, in one order'
        )


def _check_images(outcome: MethodResult, first: MethodResult) -> None:
    ours, theirs = outcome.predictions, first.predictions
    if (ours.sample_ids, ours.labels) != (theirs.sample_ids, theirs.labels):
        raise UserError(
            f'{outcome.row.name} and {first.row.name} were tested on other '
            'images: they cannot be compared image by image; give them one '
            'data set and split'
        )


def _check_metrics(outcome: MethodResult, metrics: tuple[str, ...]) -> None:
    for test in outcome.tests:
        missing = [
            name
            for name in metrics
            if name not in test and name not in (*OF_NETS, *OF_MASKS)
        ]
        if missing:
            raise UserError(
                f'the test of {outcome.row.name} has no {missing[0]}: its '
                'class is not there or has no images'
            )


def _interval(found: Predictions, metric: str) -> tuple[float, float]:
    code = values if metric in COMPARED_OF_MASKS else coded
    labels, chosen = code(found.labels, found.chosen)
    return bootstrap_interval(labels, chosen, found.groups, _SCORES[metric])
