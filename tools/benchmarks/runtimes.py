# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
r"""An exported student in other runtimes, against ONNX Runtime.

Each runtime answers the same prepared photographs in a process of its own, with one
thread, then they take turns at being timed. Told are the share of equal classes, the
largest difference of a probability, the ratio of times (median over the rounds) and the
size of the file. int8 is calibrated on other photographs of the folder. A runtime that
is not installed is left out, with the command that installs it; one that needs an
environment of its own is given that environment's Python.

Example:
    python tools/benchmarks/runtimes.py models/ham10000_small \
        --photographs PHOTOGRAPHS --python litert=ENV/bin/python --out runtimes.json
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any
from unittest import mock

import numpy as np
from _common import ROOT, show, write
from _runtimes import RUNTIMES

from hkd_mm.evaluation.calibration import softmax
from hkd_mm.inference.manifest import Manifest, read_manifest
from hkd_mm.io.images import prepare

PHOTOGRAPHS = ROOT.parent / 'shared/data/ham10000/images'
COLUMNS = ('runtime', 'precision', 'same class', 'probability', 'logits, rms')
COLUMNS += ('ms', 'times faster', 'MB')


def parse_args(argv=None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('student', type=Path, help='a folder of tools/export.py')
    parser.add_argument('--photographs', type=Path, default=PHOTOGRAPHS)
    parser.add_argument('--images', type=int, default=100)
    parser.add_argument('--calibration-images', type=int, default=256)
    parser.add_argument('--runtimes', nargs='+', choices=RUNTIMES, default=[*RUNTIMES])
    parser.add_argument('--rounds', type=int, default=15)
    parser.add_argument('--seconds', type=float, default=0.5, help='of a turn')
    parser.add_argument(
        '--python',
        nargs='+',
        default=[],
        metavar='NAME=PYTHON',
        help='Python of the environment that has the runtimes whose name begins so',
    )
    parser.add_argument('--keep', type=Path, help='folder for the converted files')
    parser.add_argument('--out', type=Path, help='a JSON file')
    return parser.parse_args(argv)


def prepared(manifest: Manifest, paths: list[Path]) -> np.ndarray:
    """Photographs as the student takes them, (N, 3, H, W) float32."""
    return np.stack([prepare(path, manifest.input) for path in paths])


def quantise(folder: Path) -> None:
    """Write the int8 graphs for ONNX Runtime, with one scale a channel and a layer."""
    from onnxruntime import quantization

    from hkd_mm.export import onnx_writer

    seen = np.load(folder / 'calibration.npy')
    parts = [seen[i : i + 16] for i in range(0, len(seen), 16)]
    fp32 = folder / 'student.onnx'
    onnx_writer.quantise(fp32, folder / 'student_int8.onnx', iter(parts))
    static = quantization.quantize_static

    def by_layer(*args: Any, **words: Any) -> None:
        static(*args, **{**words, 'per_channel': False})

    with mock.patch.object(quantization, 'quantize_static', by_layer):
        onnx_writer.quantise(fp32, folder / 'student_layer.onnx', iter(parts))


class Worker:
    """A process with one runtime; ended with the block."""

    def __init__(self, name: str, folder: Path, python: str) -> None:
        script = Path(__file__).with_name('_runtimes.py')
        words = [python, str(script), name, str(folder)]
        clean = dict(os.environ, OMP_NUM_THREADS='1')
        if python != sys.executable:
            clean.pop('PYTHONPATH', None)
        with open(folder / f'{name}.log', 'w') as log:
            self.process = subprocess.Popen(
                words,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=clean,
            )

    def read(self) -> dict[str, Any]:
        line = self.process.stdout.readline()
        return json.loads(line) if line else dict(error='its process ended')

    def time(self, seconds: float) -> list[float]:
        self.process.stdin.write(f'{seconds}\n')
        self.process.stdin.flush()
        return self.read()['ms']

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def compared(folder: Path, name: str, temperature: float) -> dict[str, float]:
    """Answers of a runtime against those of ONNX Runtime in float32."""
    known, found = (np.load(folder / f'{one}.npy') for one in ('onnx', name))
    apart = np.abs(found - known)
    p, q = (softmax(x.astype(np.float64), temperature) for x in (known, found))
    return dict(
        images=len(known),
        same_class=int((known.argmax(1) == found.argmax(1)).sum()),
        max_probability=float(np.abs(p - q).max()),
        max_logit=float(apart.max()),
        rms_logit=float(np.sqrt(np.mean(np.square(apart, dtype=np.float64)))),
    )


def processor() -> str:
    """Its name and what matters to int8 and bf16, as Linux tells them."""
    try:
        text = Path('/proc/cpuinfo').read_text()
    except OSError:
        return platform.machine()
    names = [x.split(':')[1].strip() for x in text.splitlines() if 'model name' in x]
    known = ('avx2', 'avx512f', 'avx512_vnni', 'avx512_bf16', 'amx_bf16', 'amx_int8')
    flags = [flag for flag in known if f' {flag}' in text]
    return ' '.join([*(names[:1] or [platform.machine()]), f'({", ".join(flags)})'])


def measure(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Rows of the runtimes that answered, and what the others need."""
    manifest = read_manifest(args.student)
    graph = manifest.file_of(args.student, 'fp32')
    (folder / 'student.onnx').write_bytes(graph.read_bytes())
    paths = sorted(args.photographs.rglob('*.jpg'))
    count = args.images + args.calibration_images
    if len(paths) < count:
        sys.exit(f'{args.photographs} has {len(paths)} of the {count} .jpg needed')
    order = np.random.default_rng(0).permutation(len(paths))[:count]
    chosen = [paths[i] for i in order]
    for name, part in (
        ('images', chosen[: args.images]),
        ('calibration', chosen[args.images :]),
    ):
        np.save(folder / f'{name}.npy', prepared(manifest, part))
    if {'onnx_int8', 'onnx_layer', 'openvino_int8'} & set(args.runtimes):
        quantise(folder)
    pythons = dict(text.split('=', 1) for text in args.python)
    workers: dict[str, Worker] = {}
    rows: dict[str, dict[str, Any]] = {}
    left_out = {}
    try:
        for name in dict.fromkeys(['onnx', *args.runtimes]):
            runtime = RUNTIMES[name]
            python = next((p for key, p in pythons.items() if name.startswith(key)), '')
            workers[name] = Worker(name, folder, python or sys.executable)
            found = workers[name].read()
            if 'version' not in found:
                install = f'pip install {runtime.packages}'
                why = found.get('error') or f'{found["missing"]}; {install}'
                left_out[name] = why
                print(f'{runtime.title}, {runtime.precision}, is left out: {why}')
                workers.pop(name).close()
                continue
            print(f'{runtime.title}, {runtime.precision}: {args.images} answered')
            rows[name] = dict(
                runtime=runtime.title,
                precision=runtime.precision,
                files=runtime.files,
                **found,
                **compared(folder, name, manifest.temperature),
            )
        turns: dict[str, list[float]] = {name: [] for name in rows}
        for number in range(args.rounds):
            names = list(rows)
            first = number % len(names)
            for name in names[first:] + names[:first]:
                turns[name].append(median(workers[name].time(args.seconds)))
    finally:
        for worker in workers.values():
            worker.close()
    for name, row in rows.items():
        row['median_ms'] = median(turns[name])
        pairs = zip(turns['onnx'], turns[name], strict=True)
        row['times_faster'] = median(known / own for known, own in pairs)
    return dict(
        student=manifest.name,
        parameters=manifest.parameters,
        size=manifest.input.size,
        calibration_images=args.calibration_images,
        rounds=args.rounds,
        machine=dict(processor=processor(), cores=os.cpu_count(), threads=1),
        rows=list(rows.values()),
        left_out=left_out,
    )


def cells(report: dict[str, Any]) -> list[list[str]]:
    """The table, as docs/export.md quotes it."""
    return [
        [
            f'{row["runtime"]} {row["version"]}',
            row['precision'],
            f'{row["same_class"]} of {row["images"]}',
            f'{row["max_probability"]:.1e}',
            f'{row["rms_logit"]:.1e}',
            f'{row["median_ms"]:.2f}',
            f'{row["times_faster"]:.2f}',
            f'{row["bytes"] / 1e6:.2f}',
        ]
        for row in report['rows']
    ]


def main(argv=None) -> None:
    """Measure, print, write."""
    args = parse_args(argv)
    with tempfile.TemporaryDirectory() as place:
        folder = args.keep or Path(place)
        folder.mkdir(parents=True, exist_ok=True)
        report = measure(args, folder.resolve())
    show(f'{report["student"]}, one image, one thread', COLUMNS, cells(report))
    hidden = {text: f'{text.split("=")[0]}=PYTHON' for text in args.python}
    hidden[str(args.photographs)] = 'PHOTOGRAPHS'
    words = [
        hidden.get(word, word) for word in (sys.argv[1:] if argv is None else argv)
    ]
    write(dict(command=' '.join(['runtimes.py', *words]), **report), args.out)


if __name__ == '__main__':
    main()
