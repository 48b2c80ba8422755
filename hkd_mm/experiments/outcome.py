# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Results of finished runs: means, predictions, significance."""

import math
import statistics
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from hkd_mm.errors import UserError
from hkd_mm.evaluation import significance
from hkd_mm.evaluation.classification_scores import answers_one_class
from hkd_mm.experiments.run_folders import figure, is_done, read_report
from hkd_mm.experiments.study import Study, StudyRow, all_runs
from hkd_mm.metric_names import COMPARED_OF_MASKS, OF_MASKS, OF_NETS
from hkd_mm.training.test_record import read_predictions

_SCORES = dict(
    dict.fromkeys(COMPARED_OF_MASKS, significance.mean_value),
    balanced_accuracy=significance.balanced_accuracy,
    top1=significance.accuracy,
)


@dataclass
class Predictions:
    """Predictions of one row's networks for the N images of the test split."""

    sample_ids: list[str]
    groups: list[str]  # lesions or patients; the image itself where none is known
    labels: list[str]  # class names; empty texts of segmentations
    # class names for each seed; of segmentations the compared figure
    chosen: list[list[str] | list[float]]


@dataclass
class MethodResult:
    """A row with its finished runs, a seed's folds together."""

    row: StudyRow
    reports: list[dict]  # metrics.json
    tests: list[dict]  # test.json
    predictions: Predictions
    milliseconds: float = math.nan  # that an image takes; NaN: nobody has timed it
    interval: tuple[float, float] = (math.nan, math.nan)  # 95 %, over other test splits
    # by baseline; p after Holm's correction
    against: dict[str, significance.Difference] = field(default_factory=dict)
    adjusted: dict[str, float] = field(default_factory=dict)
    fewer_seeds: bool = False  # its row asks for fewer than others have

    @property
    def minutes(self) -> float:
        return statistics.mean(r['training_minutes'] for r in self.reports)

    @property
    def seeds(self) -> list[int]:
        return list(dict.fromkeys(r.get('seed') for r in self.reports))

    @property
    def has_multiple_groups(self) -> bool:
        """Whether the test images are of more than one patient or lesion."""
        return len(set(self.predictions.groups)) > 1

    @property
    def one_class_runs(self) -> int:
        """How many of its runs predict one class for every test image."""
        return sum(map(answers_one_class, self.tests))

    def validation(self, metric: str) -> tuple[float, float]:
        """Mean and sample sd over the runs; NaN without images of a class."""
        return spread([figure(r.get('best') or {}, metric) for r in self.reports])

    def test(self, metric: str) -> tuple[float, float]:
        """Mean and sample sd over the runs; a figure of the network has no sd.

        Weights are in millions, operations in 1e9. NaN where a run lacks the figure.
        """
        if metric == 'milliseconds':
            return self.milliseconds, math.nan
        if metric in OF_NETS:
            value = figure(self.reports[0].get('student') or {}, metric)
            return value / (1e6 if metric == 'parameters' else 1), math.nan
        return spread([figure(test, metric) for test in self.tests])


def spread(values: list[float]) -> tuple[float, float]:
    """Mean and sample standard deviation, NaN of one value or with NaN."""
    mean = statistics.mean(values)
    if len(values) < 2 or math.isnan(mean):
        return mean, math.nan
    return mean, statistics.stdev(values)


def read_outcomes(
    study: Study, work_dir: Path, seeds: range, folds: int = 0
) -> list[MethodResult]:
    """Read rows all of whose runs are done, and compare them.

    In a cross-validation the network answers that was not trained on an image's fold.
    """
    outcomes = []
    for row in study.rows:
        runs = all_runs(replace(study, rows=(row,)), seeds, folds)
        folders = [run.folder(work_dir) for run in runs]
        if all(map(is_done, folders)):
            outcomes.append(read_outcome(row, folders, folds, study.compared_by))
    compare_outcomes(outcomes, study)
    return outcomes


def read_outcome(
    row: StudyRow,
    folders: list[Path],
    folds: int = 0,
    compared_by: str = 'balanced_accuracy',
) -> MethodResult:
    """Read the folders of a row's finished runs, given seed by seed."""
    size = folds or 1
    by_seed = [folders[i : i + size] for i in range(0, len(folders), size)]
    times = [  # left by tools/latency.py --for-report
        read_report(folder / 'latency.json')['median_ms']
        for folder in folders
        if (folder / 'latency.json').is_file()
    ]
    return MethodResult(
        row,
        [read_report(folder / 'metrics.json') for folder in folders],
        [read_report(folder / 'test.json') for folder in folders],
        _read_predictions(by_seed, compared_by),
        statistics.mean(times) if times else math.nan,
    )


def _read_predictions(by_seed: list[list[Path]], metric: str) -> Predictions:
    of_masks = metric in COMPARED_OF_MASKS
    columns = ('patient', metric) if of_masks else ('lesion_id', 'prediction')
    group, chosen = columns
    found: Predictions | None = None
    for folders in by_seed:
        lines = sorted(
            (line for folder in folders for line in _lines(folder, columns)),
            key=lambda line: line['sample_id'],
        )
        ids = [line['sample_id'] for line in lines]
        if found is None:
            groups = [line[group] or line['sample_id'] for line in lines]
            labels = [line.get('label', '') for line in lines]
            found = Predictions(ids, groups, labels, [])
        elif found.sample_ids != ids:
            raise UserError(
                f'{folders[0]}/predictions.csv holds other images than '
                f'{by_seed[0][0]}: the seeds were tested on different splits'
            )
        found.chosen.append([line[chosen] for line in lines])
    assert found is not None
    return found


def _lines(folder: Path, columns: tuple[str, ...]) -> list[dict[str, Any]]:
    path = folder / 'predictions.csv'
    lines: list[dict[str, Any]] = read_predictions(path)
    for name in ('sample_id', *columns):
        if name not in lines[0]:
            raise UserError(
                f'{path} has no column {name}: compared_by of the study is not a '
                'figure of such a network'
            )
    if columns[1] in COMPARED_OF_MASKS:
        for line in lines:
            try:
                line[columns[1]] = float(line[columns[1]])
            except ValueError as error:
                raise UserError(f'{path}, {line["sample_id"]}: {error}') from None
    return lines


def compare_outcomes(outcomes: list[MethodResult], study: Study) -> None:
    """Fill in intervals, and differences to the baselines of rows with as many seeds.

    Where all images are of one patient or lesion there are none.
    """
    most = max((len(one.predictions.chosen) for one in outcomes), default=0)
    measured = [key for key in study.metrics if key not in (*OF_NETS, *OF_MASKS)]
    for outcome in outcomes:
        ours, theirs = outcome.predictions, outcomes[0].predictions
        if (ours.sample_ids, ours.labels) != (theirs.sample_ids, theirs.labels):
            raise UserError(
                f'{outcome.row.name} and {outcomes[0].row.name} were tested on other '
                'images: they cannot be compared image by image; give them one '
                'data set and split'
            )
        for name in measured:
            if not all(name in test for test in outcome.tests):
                raise UserError(
                    f'the test of {outcome.row.name} has no {name}: its class is not '
                    'there or has no images'
                )
        few = outcome.row.seeds is not None
        outcome.fewer_seeds = few and len(outcome.predictions.chosen) < most
    if not outcomes or not outcomes[0].has_multiple_groups:
        return
    metric = study.compared_by
    for outcome in outcomes:
        found = outcome.predictions
        labels, chosen = _arrays(metric, found.labels, found.chosen)
        outcome.interval = significance.bootstrap_interval(
            labels, chosen, found.groups, _SCORES[metric]
        )
    by_name = {outcome.row.name: outcome for outcome in outcomes}
    for name in study.baselines:
        if name in by_name and not by_name[name].fewer_seeds:
            _compare(outcomes, by_name[name], metric)


def _compare(outcomes: list[MethodResult], base: MethodResult, metric: str) -> None:
    name, theirs = base.row.name, base.predictions
    others = [
        one
        for one in outcomes
        if one is not base and one.row.tested and not one.fewer_seeds
    ]
    for outcome in others:
        if outcome.seeds != base.seeds:
            own, given = (', '.join(map(str, one.seeds)) for one in (outcome, base))
            raise UserError(
                f'{outcome.row.name} was trained with seeds {own} and '
                f'{base.row.name} with {given}: differences are paired over '
                'seeds; give both the same ones, in one order'
            )
        ours = outcome.predictions
        outcome.against[name] = significance.paired_difference(
            *_arrays(metric, ours.labels, ours.chosen, theirs.chosen),
            ours.groups,
            _SCORES[metric],
        )
    adjusted = significance.holm([outcome.against[name].p for outcome in others])
    for outcome, p in zip(others, adjusted):
        outcome.adjusted[name] = p


def _arrays(metric: str, labels: list, *chosen: list) -> list[np.ndarray]:
    """Class names as the same whole numbers everywhere; figures as given."""
    if metric in COMPARED_OF_MASKS:  # labels play no part
        return [np.zeros(len(labels), int), *map(np.array, chosen)]
    arrays = [np.array(given) for given in (labels, *chosen)]
    names = np.unique(np.concatenate([array.ravel() for array in arrays]))
    return [np.searchsorted(names, array) for array in arrays]
