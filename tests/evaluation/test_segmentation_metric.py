# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""SegmentationMetric against definitions, with loops over all pixels."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from hkd_mm.errors import UserError
from hkd_mm.evaluation.segmentation_metric import SegmentationMetric
from hkd_mm.evaluation.segmentation_scores import hausdorff_95
from hkd_mm.registry import METRICS
from hkd_mm.structures.mask_samples import MaskPredictions, MaskSamples

BINARY = ['background', 'nodule']


def blobs(seed, shape=(13, 17), share=0.3):
    """A mask of patches; some touch the border of the image."""
    rng = np.random.default_rng(seed)
    coarse = rng.random((shape[0] // 3 + 1, shape[1] // 3 + 1)) < share
    mask = np.kron(coarse, np.ones((3, 3), bool))[: shape[0], : shape[1]]
    return mask & (rng.random(shape) < 0.95)


def naive_edge(mask):
    height, width = mask.shape
    edge = []
    for y, x in np.argwhere(mask):
        around = [(y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)]
        inside = [0 <= i < height and 0 <= j < width and mask[i, j] for i, j in around]
        if not all(inside):
            edge.append((y, x))
    return edge


def naive_percentile(values, percent):
    values = sorted(values)
    place = percent / 100 * (len(values) - 1)
    low = math.floor(place)
    high = min(low + 1, len(values) - 1)
    return values[low] + (place - low) * (values[high] - values[low])


def naive_hd95(predicted, truth, spacing=(1, 1)):
    height, width = truth.shape
    if not predicted.any() and not truth.any():
        return 0.0
    if not predicted.any() or not truth.any():
        return math.hypot(height * spacing[0], width * spacing[1])
    edges = naive_edge(predicted), naive_edge(truth)
    directed = []
    for start, end in (edges, edges[::-1]):
        nearest = [
            min(math.hypot((a - i) * spacing[0], (b - j) * spacing[1]) for i, j in end)
            for a, b in start
        ]
        directed.append(naive_percentile(nearest, 95))
    return max(directed)


def naive_overlap(predicted, truth, counted):
    tp = fp = fn = 0
    for place in np.ndindex(truth.shape):
        if counted[place]:
            tp += predicted[place] and truth[place]
            fp += predicted[place] and not truth[place]
            fn += truth[place] and not predicted[place]
    empty = tp + fp + fn == 0
    return dict(
        dice=1.0 if empty else 2 * tp / (2 * tp + fp + fn),
        iou=1.0 if empty else tp / (tp + fp + fn),
        sensitivity=tp / (tp + fn) if tp + fn else None,
        precision=tp / (tp + fp) if tp + fp else None,
    )


@pytest.mark.parametrize('seed', range(8))
@pytest.mark.parametrize('spacing', [(1, 1), (0.7, 1.4)])
def test_distances_equal_brute_force(seed, spacing):
    predicted, truth = blobs(seed), blobs(seed + 100, share=0.2)
    assert predicted.any() and truth.any()
    found = hausdorff_95(predicted, truth, spacing)
    expected = naive_hd95(predicted, truth, spacing)
    assert found == pytest.approx(expected, rel=1e-9)
    assert hausdorff_95(truth, predicted, spacing) == found


GOLDEN = Path(__file__).with_name('data') / 'hausdorff.json'


def test_distances_equal_those_of_monai():
    """Made by tools/dev/hausdorff_golden.py, in single precision."""
    found = json.loads(GOLDEN.read_text())
    assert found['made_with'].startswith('monai ')
    assert len(found['cases']) == 12
    for case in found['cases']:
        masks = []
        for name in ('predicted', 'truth'):
            mask = np.zeros(case['shape'], bool)
            mask.flat[case[name]] = True
            masks.append(mask)
        ours = hausdorff_95(*masks, case['spacing'])
        assert ours == pytest.approx(case['hd95'], rel=1e-6)


def test_distances_by_hand():
    # 20 x 1 bars side by side, 3 apart; one pixel of the second is 9 away:
    # ranks 0 .. 19, the 95th percentile at 18.05: 3 + 0.05 * (9 - 3) = 3.3
    bar, other = np.zeros((2, 20, 16), bool)
    bar[:, 2] = True
    other[:, 5] = True
    assert hausdorff_95(bar, other) == 3
    other[0, 5], other[0, 11] = False, True
    assert hausdorff_95(bar, other) == pytest.approx(3.3)
    # a hole has an edge as well
    square = np.zeros((9, 9), bool)
    square[1:8, 1:8] = True
    hollow = square.copy()
    hollow[4, 4] = False
    assert hausdorff_95(square, square) == 0
    # 24 edge pixels agree; of the 4 around the hole each is 2 from the edge:
    # rank 25.65 of 0 .. 27
    assert hausdorff_95(hollow, square) == pytest.approx(2)


def test_empty_masks_by_hand():
    empty, full = np.zeros((30, 40), bool), np.ones((30, 40), bool)
    assert hausdorff_95(empty, empty) == 0
    assert hausdorff_95(empty, full) == hausdorff_95(full, empty) == 50
    assert hausdorff_95(empty, full, (2, 2)) == 100


def evaluate(probabilities, masks, metric=None, batch=2, size=None, **meta):
    metric = metric or SegmentationMetric()
    metric.dataset_meta = dict(classes=BINARY) | meta
    probabilities = torch.as_tensor(probabilities, dtype=torch.float32)
    masks = torch.as_tensor(np.asarray(masks), dtype=torch.uint8)
    index = torch.arange(len(masks))
    for parts in zip(*(x.split(batch) for x in (probabilities, masks, index))):
        metric.process_batch(*parts)
    return metric.evaluate(len(masks) if size is None else size), metric


def named_store(monkeypatch, names):
    metric = SegmentationMetric()
    monkeypatch.setattr(metric, 'sample_names', lambda index: names[: len(index)])
    return metric


def mean(values):
    values = [v for v in values if v is not None]
    return sum(values) / len(values) if values else None


@pytest.mark.parametrize('ignored', [0.0, 0.2])
def test_one_class_equals_its_definition(ignored):
    rng = np.random.default_rng(0)
    truth = np.stack([blobs(i, share=0.15) for i in range(6)]).astype(int)
    truth[2] = 0
    scores = rng.random((6, 1, 13, 17))
    scores[2:4] = 0.1
    truth[rng.random(truth.shape) < ignored] = 255
    found, metric = evaluate(scores, truth)
    slices = []
    for score, mask in zip(scores[:, 0], truth):
        counted = mask != 255
        predicted = (score >= 0.5) & counted
        one = naive_overlap(predicted, mask == 1, counted)
        one['hd95'] = naive_hd95(predicted, mask == 1)
        slices.append(one)
    assert set(found) == set(slices[0])
    for name, value in found.items():
        assert value == pytest.approx(mean(x[name] for x in slices)), name
    for row, one in zip(metric.last['rows'], slices):
        assert row == pytest.approx(dict(one, sample_id=None, patient=None))
    assert slices[2] == dict(dice=1, iou=1, sensitivity=None, precision=None, hd95=0)
    assert metric.last['unit'] == 'pixel'


def test_several_classes_equal_their_definition():
    rng = np.random.default_rng(1)
    truth = rng.integers(0, 3, (5, 6, 7))
    truth[0][truth[0] == 2] = 0
    scores = rng.random((5, 3, 6, 7))
    scores[1, 2] = -1
    found, metric = evaluate(scores, truth, classes=['bg', 'a', 'b'])
    each = {name: {} for name in 'ab'}
    for k, name in enumerate('ab', 1):
        slices = []
        for score, mask in zip(scores, truth):
            said = score.argmax(0) == k
            one = naive_overlap(said, mask == k, np.ones_like(said))
            slices.append(dict(one, hd95=naive_hd95(said, mask == k)))
        for figure in slices[0]:
            each[name][figure] = mean(x[figure] for x in slices)
    expected = {
        f'{name}/{figure}': value
        for name, figures in each.items()
        for figure, value in figures.items()
    }
    for figure in each['a']:
        expected[figure] = (each['a'][figure] + each['b'][figure]) / 2
    assert found == pytest.approx(expected)
    row = metric.last['rows'][0]
    assert row['b/sensitivity'] is None
    assert row['sensitivity'] == row['a/sensitivity']


def test_two_scores_of_one_class_are_one():
    rng = np.random.default_rng(2)
    truth, score = rng.integers(0, 2, (4, 8, 8)), rng.random((4, 1, 8, 8))
    two = np.concatenate([1 - score, score], 1)
    assert evaluate(two, truth)[0] == evaluate(score, truth)[0]


def test_slices_of_a_patient_are_pooled(monkeypatch):
    # slices of 1 x 4: TP FP FN 1 1 0, 0 0 1, of one patient: 2 / (2 + 1 + 1);
    # the third, of another, 2 2 0: 4 / 6; the fourth is nobody's
    truth = [[[1, 0, 0, 0]], [[0, 0, 0, 1]], [[1, 1, 0, 0]], [[0, 0, 0, 0]]]
    said = [[[1, 1, 0, 0]], [[0, 0, 0, 0]], [[1, 1, 1, 1]], [[1, 0, 0, 0]]]
    metric = named_store(monkeypatch, ['p/0', 'p/1', 'q/0', 'x'])
    groups = {'p/0': 'p', 'p/1': 'p', 'q/0': 'q'}
    found, metric = evaluate(
        np.array(said)[:, None], truth, metric, batch=4, groups=groups
    )
    assert found['patient_dice'] == pytest.approx((2 / 4 + 4 / 6) / 2)
    # distances along the row: 1 0 -> 1 1: 0.95 of 0 and 1; nothing is said:
    # the diagonal; 1 1 -> all: ranks 0 0 1 2 at 2.85
    far = (0.95 + math.hypot(1, 4)) / 2
    assert metric.last['patients'] == {
        'p': pytest.approx(
            dict(
                patient_dice=0.5,
                patient_iou=1 / 3,
                patient_sensitivity=0.5,
                patient_precision=0.5,
                patient_hd95=far,
            )
        ),
        'q': pytest.approx(
            dict(
                patient_dice=2 / 3,
                patient_iou=0.5,
                patient_sensitivity=1,
                patient_precision=0.5,
                patient_hd95=1.85,
            )
        ),
    }
    assert found['patient_hd95'] == pytest.approx((far + 1.85) / 2)
    rows = metric.last['rows']
    assert [row['patient'] for row in rows] == ['p', 'p', 'q', None]
    assert [row['sample_id'] for row in rows] == ['p/0', 'p/1', 'q/0', 'x']
    assert found['dice'] == pytest.approx((2 / 3 + 0 + 4 / 6 + 0) / 4)


def test_millimetres():
    truth, said = np.zeros((2, 1, 20, 16), int)
    truth[:, :, 2] = said[:, :, 5] = 1
    pixels, _ = evaluate(said[:, None], truth)
    assert pixels['hd95'] == 3
    for metric, meta in (
        (SegmentationMetric(spacing=(2.0, 0.5)), dict(spacing=9.0)),
        (None, dict(spacing=(2.0, 0.5))),
    ):
        found, metric = evaluate(said[:, None], truth, metric, **meta)
        assert found['hd95'] == 1.5 and metric.last['unit'] == 'mm'


def test_millimetres_of_each_slice(monkeypatch):
    truth, said = np.zeros((2, 2, 20, 16), int)
    truth[:, :, 2] = said[:, :, 5] = 1
    metric = named_store(monkeypatch, ['a', 'b'])
    known = dict(a=(40.0, 8.0), b=(20.0, 32.0))  # pixels 0.5 and 2 wide
    found, metric = evaluate(said[:, None], truth, metric, extents=known)
    assert [row['hd95'] for row in metric.last['rows']] == [1.5, 6.0]
    assert found['hd95'] == 3.75 and metric.last['unit'] == 'mm'


def test_distances_may_be_left_out():
    scores, truth = np.ones((2, 1, 4, 4)), np.ones((2, 4, 4))
    found, metric = evaluate(scores, truth, SegmentationMetric(hd95=False))
    assert set(found) == {'dice', 'iou', 'sensitivity', 'precision'}
    assert 'hd95' not in metric.last['rows'][0]


def test_the_threshold():
    scores, truth = np.full((1, 1, 4, 4), 0.3), np.ones((1, 4, 4))
    assert evaluate(scores, truth)[0]['dice'] == 0
    low = SegmentationMetric(threshold=0.25)
    assert evaluate(scores, truth, low)[0]['dice'] == 1


def test_padding_is_dropped_and_batches_do_not_matter():
    rng = np.random.default_rng(3)
    truth, score = rng.integers(0, 2, (5, 8, 8)), rng.random((5, 1, 8, 8))
    expected, _ = evaluate(score, truth)
    assert evaluate(score, truth, batch=5)[0] == expected
    padded = [np.concatenate([x, x[:2]]) for x in (score, truth)]
    found, metric = evaluate(*padded, size=5)
    assert found == expected and len(metric.last['rows']) == 5


def test_predictions_of_a_network():
    logits = torch.randn(3, 1, 8, 8)
    masks = torch.randint(0, 2, (3, 8, 8), dtype=torch.uint8)
    samples = MaskSamples(masks, torch.arange(3))
    metric = METRICS.build(dict(type='hkd_mm.SegmentationMetric', prefix='student'))
    metric.process({}, [MaskPredictions(logits, samples)])
    found = metric.evaluate(3)
    expected, _ = evaluate(logits.sigmoid(), masks)
    assert found == {f'student/{k}': v for k, v in expected.items()}
    with pytest.raises(UserError, match='segmentor'):
        metric.process({}, [dict(pred_score=1)])


@pytest.mark.parametrize(
    'scores, masks, meta, said',
    [
        (np.full((1, 1, 4, 4), np.nan), np.ones((1, 4, 4)), {}, 'lr'),
        (np.ones((1, 1, 4, 4)), np.full((1, 4, 4), 2), {}, 'beyond 1'),
        (np.ones((1, 1, 4, 4)), np.ones((1, 2, 2)), {}, 'size'),
        (np.ones((1, 3, 4, 4)), np.ones((1, 4, 4)), {}, '3 classes.*has 2'),
        (np.ones((0, 1, 4, 4)), np.ones((0, 4, 4)), {}, 'empty'),
        (np.ones((1, 1, 4, 4)), np.ones((1, 4, 4)), dict(spacing=0), 'mm'),
    ],
)
def test_what_would_give_wrong_numbers_is_refused(scores, masks, meta, said):
    with pytest.raises(UserError, match=said) as error:
        evaluate(scores, masks, **meta)
    assert '\n' not in str(error.value)


def test_arguments_out_of_range_are_refused():
    for kwargs in (
        dict(threshold=1.0),
        dict(spacing=(1, 2, 3)),
        dict(spacing=(1, 'x')),
        dict(spacing=True),
    ):
        with pytest.raises(UserError, match=next(iter(kwargs))):
            SegmentationMetric(**kwargs)


def shared_batch():
    rng = np.random.default_rng(4)
    return rng.random((5, 1, 8, 8)), rng.integers(0, 2, (5, 8, 8))


def run_rank(rank, folder):
    torch.distributed.init_process_group(
        'gloo', f'file://{folder}/meeting', rank=rank, world_size=2
    )
    scores, truth = shared_batch()
    mine = [rank, rank + 2, (rank + 4) % 5]  # the sixth pads
    metric = SegmentationMetric(collect_dir=f'{folder}/parts')
    metric.process_batch(
        torch.tensor(scores[mine]),
        torch.tensor(truth[mine], dtype=torch.uint8),
        torch.tensor(mine),
    )
    torch.save(metric.evaluate(5), f'{folder}/{rank}.pth')
    torch.distributed.destroy_process_group()


def test_two_processes_give_the_figures_of_one(tmp_path, monkeypatch):
    monkeypatch.setenv('GLOO_SOCKET_IFNAME', 'lo')
    torch.multiprocessing.start_processes(
        run_rank, (str(tmp_path),), nprocs=2, start_method='fork'
    )
    expected, _ = evaluate(*shared_batch())
    for rank in range(2):
        found = torch.load(tmp_path / f'{rank}.pth', weights_only=True)
        assert found == pytest.approx(expected)
