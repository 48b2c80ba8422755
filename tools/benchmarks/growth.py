# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""How time and memory grow with the number of images, without a model.

Draws folders of N small images (hard links to a few hundred different ones),
as class folders and as a table with lesions, and measures each step in a
process of its own: opening train, val and test for the first time (the split
is drawn) and in later processes, opening them once more in the same process,
packing, opening the packed splits, one epoch of loader, sampler and teacher
cache with logits of six classes, and tools/data/verify.py. Memory is
the peak above what the imports take, of the measuring process (on Linux). The
growth exponent is the slope of log seconds over log N: 1 is proportional.

Example:
    python tools/benchmarks/growth.py --out docs/results/speed/growth.json
"""

import argparse
import gc
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from _common import ROOT, machine, show, write

CLASSES = ('Acne', 'Benign', 'Eczema', 'Infectious', 'Malignant', 'Pigment')
LAYOUTS = ('folders', 'table')
DISTINCT, SIDE, BATCH = 300, 40, 256
LIMIT_S, LIMIT_MB = 20, 1000  # all three splits of the largest size


def parse_args(argv=None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        '--sizes',
        type=int,
        nargs='+',
        default=[2000, 20000, 100000, 400000],
        help='numbers of images (default: %(default)s)',
    )
    parser.add_argument(
        '--parts',
        nargs='+',
        choices=PARTS,
        default=list(PARTS),
        help='what to measure (default: all)',
    )
    parser.add_argument(
        '--pack-at-most',
        type=int,
        default=400000,
        help='images of the packed store; with more, that many are packed '
        'and "packed" says so (default: %(default)s)',
    )
    parser.add_argument('--temp', help='folder to draw in (default: /tmp)')
    parser.add_argument('--out', type=Path, help='a JSON file')
    parser.add_argument('--child', nargs=3, help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def draw(folder: Path, count: int) -> None:
    """Class folders ``folders`` and a table ``table`` of the same images."""
    from PIL import Image

    rng = np.random.default_rng(0)
    files = []
    (folder / 'drawn').mkdir(parents=True)
    for i in range(DISTINCT):
        files.append(str(folder / f'drawn/{i}.png'))
        pixels = Image.fromarray(rng.integers(0, 256, (8, 8, 3), 'uint8'))
        pixels.resize((SIDE, SIDE)).save(files[-1])
    for name in CLASSES:
        (folder / 'folders' / name).mkdir(parents=True)
    (folder / 'table/images').mkdir(parents=True)
    labels = rng.choice(CLASSES, count).tolist()
    order = list(range(count))
    random.Random(0).shuffle(order)
    with open(folder / 'table/annotations.csv', 'w') as table:
        table.write('image,label,lesion_id,age\n')
        for i in order:
            name, source = f'{i:07d}', files[i % DISTINCT]
            os.link(source, f'{folder}/folders/{labels[i]}/{name}.png')
            os.link(source, f'{folder}/table/images/{name}.png')
            lesion = f'L{i // 2}' if i % 5 else ''
            table.write(f'{name},{labels[i]},{lesion},{i % 80}\n')


class Peak:
    """Seconds of a block, and MB that its peak adds to the process."""

    def __enter__(self) -> 'Peak':
        gc.collect()
        Path('/proc/self/clear_refs').write_text('5')  # peak = now
        self._before, self._clock = _memory('VmRSS'), time.perf_counter()
        return self

    def __exit__(self, *unused) -> None:
        self.seconds = time.perf_counter() - self._clock
        self.mb = _memory('VmHWM') - self._before


def _memory(field: str) -> float:
    for line in Path('/proc/self/status').read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1000
    raise AssertionError(field)


def _open(folder: Path, layout: str) -> list:
    from hkd_mm.datasets.skin_disease import SkinDisease

    found = []
    for split in ('train', 'val', 'test'):
        data = SkinDisease(
            str(folder / layout),
            split,
            split_file=str(folder / f'{layout}.json'),
            serialize_data=False,
        )
        data.class_counts()
        found.append(data)
    return found


def measure_opening(folder: Path, layout: str) -> dict[str, Any]:
    """The three splits, and once more in this process."""
    with Peak() as first:
        kept = _open(folder, layout)
    with Peak() as again:
        kept += _open(folder, layout)
    return dict(s=first.seconds, mb=first.mb, again_s=again.seconds)


def measure_packing(folder: Path, at_most: str) -> dict[str, Any]:
    """Packing, opening packed splits, an epoch of the train split."""
    from hkd_mm.datasets.packed.builder import ensure_store
    from hkd_mm.datasets.packed.packed_dataset import PackedDataset
    from hkd_mm.datasets.packed.plan import make_plan

    splits = _open(folder, 'folders')
    records = splits[0].records()
    whole = len(records) <= int(at_most)
    with Peak() as packing:
        plan = make_plan(splits[0].data_root, records[: int(at_most)], 16)
        ensure_store(plan, folder / 'packed')
    found = dict(packed=len(plan.ids), packing_s=packing.seconds, packing_mb=packing.mb)
    if not whole:
        return found
    del splits, plan, records
    with Peak() as opening:
        packed = [
            PackedDataset(data, 16, store_dir=str(folder / 'packed'))
            for data in _open(folder, 'folders')
        ]
    found.update(packed_s=opening.seconds, packed_mb=opening.mb)
    with Peak() as epochs:
        _epochs(packed[0], folder / 'cache')
    found.update(epoch_s=epochs.seconds / 2, epoch_mb=epochs.mb)
    return found


def _epochs(data, folder: Path) -> None:
    """Two epochs: the cache is written, then read; no model."""
    from torch.utils.data import DataLoader

    from hkd_mm.datasets.packed.packed_dataset import packed_collate
    from hkd_mm.datasets.samplers import BalancedSampler
    from hkd_mm.models.teacher_cache.cache_file import CacheFile
    from hkd_mm.models.teacher_cache.teacher_cache import CacheIndex

    slots = CacheIndex(data.index)
    arrays = dict(logits=((len(CLASSES),), 'float32'))
    cache = CacheFile(folder, dict(of='growth'), arrays, 1, slots.count)
    sampler = BalancedSampler(data, seed=0, power=0)
    loader = DataLoader(data, BATCH, sampler=sampler, collate_fn=packed_collate)
    logits = np.ones((BATCH, len(CLASSES)), np.float32)
    for epoch in range(2):
        sampler.set_epoch(epoch)
        for batch in loader:
            rows = slots.on_host(batch['index'])
            if not cache.is_complete(0, rows):
                cache.write(0, rows, dict(logits=logits[: len(rows)]))
            cache.read(0, rows)


def measure_verifying(folder: Path, layout: str) -> dict[str, Any]:
    """What tools/data/verify.py does, near duplicates included."""
    from hkd_mm.data_tools.source import read_records, read_where
    from hkd_mm.data_tools.verify import verify_data

    args = argparse.Namespace(
        data_root=str(folder / layout),
        dataset=None,
        ann_file=None,
        classes=None,
        split_file=None,
        ratios='80:10:10',
        seed=42,
    )
    with Peak() as peak:
        records, _, _ = read_records(args)
        where, _ = read_where(records, args)
        verify_data(records, where)
    return dict(verify_s=peak.seconds, verify_mb=peak.mb)


def _child(work: str, folder: str, word: str) -> None:
    sys.path.insert(0, str(ROOT))
    import hkd_mm.data_tools.verify
    import hkd_mm.datasets
    import hkd_mm.models  # noqa: F401  not part of what is measured

    function = dict(
        open=measure_opening, pack=measure_packing, verify=measure_verifying
    )[work]
    print('FOUND' + json.dumps(function(Path(folder), word)))


def _run(work: str, folder: Path, word: str, temp: Path) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, __file__, '--child', work, str(folder), word],
        cwd=temp,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    line = next(text for text in done.stdout.splitlines() if text.startswith('FOUND'))
    return json.loads(line.removeprefix('FOUND'))


def measure(args: argparse.Namespace, count: int) -> dict[str, Any]:
    """All figures of one size."""
    row: dict[str, Any] = dict(images=count)
    with tempfile.TemporaryDirectory(dir=args.temp) as temp:
        folder = Path(temp) / 'data'
        draw(folder, count)
        if 'open' in args.parts:
            for layout in LAYOUTS:
                for when in ('first', 'later'):
                    found = _run('open', folder, layout, Path(temp))
                    row[f'{layout}_{when}_s'] = found['s']
                row[f'{layout}_again_s'] = found['again_s']
                row[f'{layout}_mb'] = found['mb']
        if 'pack' in args.parts:
            most = str(args.pack_at_most)
            row.update(_run('pack', folder, most, Path(temp)))
        if 'verify' in args.parts:
            row.update(_run('verify', folder, 'table', Path(temp)))
    return row


PARTS = ('open', 'pack', 'verify')


def exponents(rows: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Of each figure: the slope over all sizes, and over the last two."""
    found = {}
    for name in rows[0]:
        known = [row for row in rows if row.get(name)]
        if name in ('images', 'packed') or len(known) < 2:
            continue
        sizes = [
            row['packed' if name.startswith('packing') else 'images'] for row in known
        ]
        if len(set(sizes)) < len(sizes):  # samples of one size
            continue
        x, y = np.log(sizes), np.log([max(row[name], 1e-9) for row in known])
        found[name] = dict(
            fit=round(float(np.polyfit(x, y, 1)[0]), 3),
            last=round(float((y[-1] - y[-2]) / (x[-1] - x[-2])), 3),
        )
    return found


def main(argv=None) -> None:
    """Measure, print, write after every size."""
    args = parse_args(argv)
    if args.child:
        _child(*args.child)
        return
    rows: list[dict[str, Any]] = []
    for count in args.sizes:
        rows.append(measure(args, count))
        print(json.dumps(rows[-1]), flush=True)
        report = dict(
            command=' '.join(sys.argv),
            machine=machine(),
            load=os.getloadavg()[2],
            distinct=DISTINCT,
            side=SIDE,
            limit=dict(seconds=LIMIT_S, mb=LIMIT_MB),
            rows=rows,
            exponents=exponents(rows),
        )
        write(report, args.out)
    names = [name for name in rows[-1] if name != 'images']
    columns = ['figure', *(f'{row["images"]:,}' for row in rows)]
    columns += ['last, a 1,000', 'exponent', 'last two']
    found = report['exponents']
    show(
        'Growth with the images: seconds (s) and peak MB above the imports',
        columns,
        [
            [
                name,
                *(row.get(name) for row in rows),
                rows[-1][name] / rows[-1]['images'] * 1000,
                found.get(name, {}).get('fit'),
                found.get(name, {}).get('last'),
            ]
            for name in names
        ],
    )


if __name__ == '__main__':
    main()
