# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""What ``fuzz.py`` tries: readers, and documents that are nearly right."""

import json
import os
import shutil
import string
import subprocess
import sys
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any, NamedTuple

from hypothesis import strategies as st

ROOT = Path(__file__).resolve().parents[2]
CLASSES = ('Acne', 'Benign', 'Eczema')


class Case(NamedTuple):
    """One example.

    Args:
        call: reads it.
        shown: what was generated, for the report.
        forbidden: the reader has to refuse it.
    """

    call: Callable[[], Any]
    shown: str
    forbidden: bool = False


TARGETS: dict[str, Callable] = {}  # name -> (draw, material, folder) -> Case
_TEXTS = ['', ' ', 'x', '../../x', '/etc/passwd', '\ud800', 'é' * 200, 'a' * 5000, '\0']
_TEXTS += ['1', 'nan', 'None', '<b>', '=1+1', 'a\nb', '{0}', '{9**9}', '%s', '🙂', '-']
_NUMBERS = [0, 1, -1, 2, 0.5, -0.5, 1e308, 10**30, float('nan'), float('inf'), 65536]
scalars = st.sampled_from([None, True, False, *_NUMBERS, *_TEXTS])
keys = st.sampled_from([*_TEXTS, 'type', 'name', 'path', 'version', '_base_'])
junk = st.one_of(
    scalars,
    st.recursive(
        scalars,
        lambda inner: st.one_of(
            st.lists(inner, max_size=3), st.dictionaries(keys, inner, max_size=3)
        ),
        max_leaves=6,
    ),
    st.integers(1, 300).map(lambda depth: _nested(depth)),
)


def _nested(depth: int) -> list:
    found: list = []
    for _ in range(depth):
        found = [found]
    return found


def target(function: Callable) -> Callable:
    """Add a function to ``TARGETS`` under its own name."""
    TARGETS[function.__name__] = function
    return function


# Material: a finished run and what is made of it ------------------------------


def draw_images(folder: Path, per_class: int = 12, size: int = 24) -> Path:
    """Write class folders of PNG and JPEG images."""
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)
    for index, name in enumerate(CLASSES):
        (folder / name).mkdir(parents=True)
        for number in range(per_class):
            pixels = rng.integers(0, 120, (size, size, 3))
            pixels[..., index] += 100
            suffix = 'jpg' if number % 2 else 'png'
            path = folder / name / f'{name.lower()}_{number:02d}.{suffix}'
            Image.fromarray(pixels.astype('uint8')).save(path)
    return folder


def make_material(folder: Path) -> Path:
    """Train, distil, test and export once; what is there already is kept."""
    if (folder / 'export/manifest.json').exists():
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    data = draw_images(folder / 'data')
    options = [f'data_root={data}', f'classes=[{",".join(CLASSES)}]']
    options += ['split_ratios=(0.5,0.25,0.25)', 'input_size=32', 'batch_size=6']
    options += ['max_epochs=1', f'split_file={folder}/split.json']
    small = ['teacher=resnet8', 'student=resnet8']
    small += ['teacher_config=students/resnet8_skin.py']
    run = folder / 'run'
    for argv in (
        ['train', 'configs/kd_wrn50_mbv2.py', '--work-dir', run]
        + ['--cfg-options', *options, *small],
        ['test', run],
        ['export', run, '--out', folder / 'export'],
    ):
        ran = subprocess.run(
            [sys.executable, ROOT / f'tools/{argv[0]}.py', *map(str, argv[1:])],
            cwd=ROOT,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, 'PYTHONPATH': str(ROOT)},
        )
        assert ran.returncode == 0, ran.stdout
    return folder


def copy_of(source: Path, folder: Path) -> Path:
    """A copy made of hard links; files to be changed are replaced."""
    return Path(shutil.copytree(source, folder / source.name, copy_function=os.link))


def replace(path: Path, content: bytes) -> None:
    """Write a file anew, so that no link to it changes."""
    path.unlink(missing_ok=True)
    path.write_bytes(content)


# Changes ----------------------------------------------------------------------


def paths_in(document: Any, path: tuple = ()) -> list[tuple]:
    """All places in nested dicts and lists, the document itself first."""
    found = [path]
    if isinstance(document, dict):
        items = list(document.items())
    else:
        items = list(enumerate(document[:3])) if isinstance(document, list) else []
    for key, value in items:
        found += paths_in(value, (*path, key))
    return found


def changed(draw, document: Any) -> tuple[Any, str]:
    """A document with one to three places changed, and how."""
    document, notes = deepcopy(document), []
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(paths_in(document)))
        if not path:
            document = draw(junk) if draw(st.integers(0, 9)) == 0 else document
            notes.append('the whole document')
            continue
        parent = document
        for key in path[:-1]:
            parent = parent[key]
        how = draw(st.sampled_from(['replace', 'replace', 'delete', 'add']))
        value = draw(junk)
        notes.append(f'{how} {path}: {_short(value)}')
        if how == 'replace':
            parent[path[-1]] = value
        elif how == 'delete':
            del parent[path[-1]]
        elif isinstance(parent, dict):
            parent[draw(keys)] = value
        else:
            parent.append(value)
    return document, '; '.join(notes)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 200 else f'{text[:200]}... ({len(text)} characters)'


def changed_bytes(draw, content: bytes) -> tuple[bytes, str]:
    """Bytes that are cut, flipped, doubled, or others."""
    how = draw(st.sampled_from(['cut', 'flip', 'flip', 'junk', 'insert', 'empty']))
    at = draw(st.integers(0, max(0, len(content) - 1)))
    if how == 'cut':
        return content[:at], f'cut at {at}'
    if how == 'flip':
        found = bytearray(content)
        for _ in range(draw(st.integers(1, 8))):
            if found:
                at = draw(st.integers(0, len(found) - 1))
                found[at] ^= 1 << draw(st.integers(0, 7))
        return bytes(found), f'bits flipped, one at {at}'
    if how == 'insert':
        more = draw(st.binary(min_size=1, max_size=40))
        return content[:at] + more + content[at:], f'{more!r} put in at {at}'
    if how == 'junk':
        found = draw(st.binary(max_size=300))
        return found, repr(found)
    return b'', 'an empty file'


def changed_json(draw, path: Path) -> tuple[bytes, str]:
    """A JSON file with changed values, or changed bytes."""
    content = path.read_bytes()
    how = draw(st.integers(0, 15))
    if how == 0:
        return b'[' * 100_000, '100,000 brackets'
    if how < 4:
        return changed_bytes(draw, content)
    document, note = changed(draw, json.loads(content))
    return json.dumps(document).encode(), note


def in_folder(name: str, file: str, read: Callable[[Path], Any], of_json=True) -> None:
    """Add a target: a folder of the material with one file of it changed.

    Args:
        name: of the target.
        file: below the material, its first part is the folder; a pattern.
        read: called with the folder.
    """

    def case(draw, material: Path, folder: Path) -> Case | None:
        found = sorted(material.glob(file))
        if not found:
            raise FileNotFoundError(f'{file} is not in the material')
        path = draw(st.sampled_from(found))
        change = changed_json if of_json else None
        content, note = (
            change(draw, path) if of_json else changed_bytes(draw, path.read_bytes())
        )
        top = Path(path.relative_to(material)).parts[0]
        copy = (
            copy_of(material / top, folder)
            if (material / top).is_dir()
            else Path(shutil.copy(path, folder / top))
        )
        replace(folder / path.relative_to(material), content)
        return Case(lambda: read(copy), f'{path.name}: {note}')

    case.__name__ = name
    target(case)


# Data sets --------------------------------------------------------------------

_CELLS = st.one_of(
    st.sampled_from(['', 'NA', '-', 'Acne', 'Benign', 'acne_00', '"', '"x', "'", '=1']),
    st.sampled_from(['train', 'Valid', 'test', 'a;b', 'a,b', '\x00', 'é', '1e999']),
    st.text(string.printable, max_size=8),
)


@target
def table(draw, material, folder) -> Case:
    """A data set's table of any cells, in any encoding."""
    from hkd_mm.datasets import SkinDisease

    (folder / 'data').mkdir()
    root = folder / 'data'
    for name in CLASSES:
        for path in sorted((material / 'data' / name).iterdir())[:4]:
            os.link(path, root / path.name)
    names = [path.name for path in sorted(root.iterdir())]
    header = draw(
        st.lists(
            st.sampled_from(
                ['image', 'label', 'lesion_id', 'patient_id', 'split', 'x', 'Image', '']
            ),
            min_size=1,
            max_size=6,
        )
    )
    rows = [
        [
            draw(_CELLS)
            if draw(st.integers(0, 9)) == 0
            else dict(image=name, label=CLASSES[index % 3]).get(column.lower(), 'a')
            for column in header
        ]
        for index, name in enumerate(names)
    ]
    mark = draw(st.sampled_from(',;\t'))
    text = '\n'.join(mark.join(row) for row in [header, *rows])
    encoding = draw(st.sampled_from(['utf-8', 'utf-8-sig', 'utf-16', 'cp1252']))
    content = text.encode(encoding, 'replace')
    if draw(st.integers(0, 4)) == 0:
        content, _ = changed_bytes(draw, content)
    (root / 'labels.csv').write_bytes(content)
    return Case(
        lambda: SkinDisease(
            data_root=str(root),
            split='train',
            split_file=str(folder / 'split.json'),
        ),
        repr(content),
    )


_NAME = st.one_of(
    st.text(min_size=1, max_size=20),
    st.sampled_from(['é', 'é', '𠀋', 'a' * 250, '[x]', 'a,b', '1', 'None', '..x']),
    st.binary(min_size=1, max_size=12).map(os.fsdecode),
)


@target
def class_folders(draw, material, folder) -> Case | None:
    """Class folders and images of any name."""
    from hkd_mm.datasets import SkinDisease

    root, images = folder / 'data', sorted((material / 'data/Acne').iterdir())
    names = draw(st.lists(_NAME, min_size=1, max_size=4, unique=True))
    for name in names:
        place = root / name.replace('/', '_').replace('\0', '_')
        try:
            place.mkdir(parents=True, exist_ok=True)
            for path in images[: draw(st.integers(0, 5))]:
                stem = draw(_NAME).replace('/', '_').replace('\0', '_')
                shutil.copy(path, place / f'{stem}{path.suffix}')
            if draw(st.integers(0, 5)) == 0:
                (place / 'again').symlink_to(root)
            if draw(st.integers(0, 5)) == 0:
                os.mkfifo(place / 'pipe.png')
        except (OSError, ValueError):
            return None  # no name of this file system
    return Case(
        lambda: SkinDisease(
            data_root=str(root), split='train', split_file=str(folder / 's.json')
        ),
        repr(names),
    )


@target
def image(draw, material, folder) -> Case:
    """An image file with changed bytes, of any suffix."""
    from hkd_mm.io.images import read_rgb

    path = draw(st.sampled_from(sorted((material / 'data').glob('*/*'))))
    content, note = changed_bytes(draw, path.read_bytes())
    suffix = draw(st.sampled_from(['.png', '.jpg', '.webp', '.heic', '.gif', '']))
    copy = folder / f'x{suffix}'
    copy.write_bytes(content)
    return Case(lambda: read_rgb(str(copy)), f'{path.name}{suffix}: {note}')


def _read_split(path: Path):
    from hkd_mm.datasets import SkinDisease

    data = path.parent / 'data'
    return SkinDisease(data_root=str(data), split='train', split_file=str(path))


@target
def split_file(draw, material, folder) -> Case:
    """A split file with other content."""
    copy_of(material / 'data', folder)
    content, note = changed_json(draw, material / 'split.json')
    path = folder / 'split.json'
    path.write_bytes(content)
    return Case(lambda: _read_split(path), note)


# Runs and exports -------------------------------------------------------------


def _classify(folder: Path):
    from hkd_mm.inference import SkinClassifier

    return SkinClassifier(folder)


def _test(folder: Path):
    from hkd_mm.inference.run_folder import read_run

    return read_run(folder)


def _report(folder: Path):
    from hkd_mm.report.report import make_report

    return make_report([str(folder)], out=str(folder.parent / 'report.html'))


def _resume(folder: Path):
    from hkd_mm.training.run_notes import read_begun, read_finished

    return read_begun(folder), read_finished(folder)


def _load(path: Path):
    from hkd_mm.io.checkpoints import safe_load

    return safe_load(path)


in_folder('manifest', 'export/manifest.json', _classify)
in_folder('exported_file', 'export/*.onnx', _classify, of_json=False)
in_folder('run_state', 'run/run_state.json', _resume)
in_folder('student_file', 'run/student.pth', _test, of_json=False)
in_folder('run_config', 'run/*.py', _test, of_json=False)
in_folder('run_json', 'run/[mth]*.json', _report)
in_folder('predictions', 'run/predictions.csv', _report, of_json=False)


@target
def strict_manifest(draw, material, folder) -> Case:
    """A manifest with an object where a plain value belongs: refused."""
    path = material / 'export/manifest.json'
    document = json.loads(path.read_bytes())
    leaves = []
    for place in paths_in(document):
        value: Any = document
        for key in place:
            value = value[key]
        facts = place and place[0] in ('checks', 'source')  # of any kind, for readers
        if place and not facts and isinstance(value, (str, int, float)):
            leaves.append(place)
    place = draw(st.sampled_from(leaves))
    parent = document
    for key in place[:-1]:
        parent = parent[key]
    parent[place[-1]] = {'junk': 1}
    copy = copy_of(material / 'export', folder)
    replace(copy / 'manifest.json', json.dumps(document).encode())
    return Case(lambda: _classify(copy), f'an object at {place}', forbidden=True)


# Configs, studies and sweeps --------------------------------------------------


def python_of(document: dict[str, Any]) -> str:
    """A config file with these values at its top."""
    lines = []
    for key, value in document.items():
        text = repr(value).replace('nan', "float('nan')").replace('inf', "float('inf')")
        lines.append(f'{key} = {text}')
    return '\n'.join(lines) + '\n'


_STUDY = dict(
    title='t',
    baselines=['alone'],
    compared_by='balanced_accuracy',
    metrics=['balanced_accuracy', 'mel/f1'],
    roles=dict(alone='alone'),
    options=dict(max_epochs=1),
    sizes=dict(small=dict(title='s', options=dict(max_epochs=1), rows={})),
    rows=dict(
        alone=dict(config='students/mbv2_skin.py', tested=False, paper=dict(top1=0.5)),
        kd=dict(
            config='kd_wrn50_mbv2.py', title='KD', after=['alone'], options=dict(lr=1)
        ),
    ),
)
_SWEEP = dict(
    config='kd_wrn50_mbv2.py',
    sampler='grid',
    metric='balanced_accuracy',
    space=dict(alpha=[0.1, 0.5], tau=[1, 2]),
    options={'model.distiller.distill_losses.loss_kl.loss_weight': '{alpha}'},
    seeds=1,
    pruner='median',
    title='s',
)


def _python_file(draw, folder: Path, document: dict, unknown: bool) -> tuple[Path, str]:
    if unknown:
        document, note = {**document, 'unknown_key': 1}, 'unknown_key'
    else:
        document, note = changed(draw, document)
    path = folder / 'file.py'
    if not isinstance(document, dict):
        document = dict(rows=document)
    named = {key: value for key, value in document.items() if str(key).isidentifier()}
    path.write_bytes(python_of(named).encode(errors='surrogatepass'))
    return path, note


@target
def study(draw, material, folder) -> Case:
    """A study file with other values."""
    from hkd_mm.experiments.study import read_study

    unknown = draw(st.integers(0, 9)) == 0
    path, note = _python_file(draw, folder, _STUDY, unknown)
    size = draw(st.sampled_from([None, 'small', '../x']))
    return Case(lambda: read_study(path, size), note, unknown)


@target
def sweep(draw, material, folder) -> Case:
    """A sweep file with other values."""
    from hkd_mm.experiments.sweep_file import read_sweep

    unknown = draw(st.integers(0, 9)) == 0
    path, note = _python_file(draw, folder, _SWEEP, unknown)
    trials = draw(st.sampled_from([None, 3, 0, -1]))
    return Case(lambda: read_sweep(path, trials), note, unknown)


_OPTIONS = [
    *('max_epochs', 'batch_size', 'input_size', 'seed', 'data_root', 'classes'),
    *('packed', 'packed.num_views', 'teacher_cache', 'student', 'teacher', 'pair'),
    *('optim_wrapper', 'optim_wrapper.optimizer.lr', 'optim_wrapper.optimizer.type'),
    *('optim_wrapper.clip_grad.max_norm', 'train_cfg', 'train_cfg.val_interval'),
    *('train_dataloader', 'train_dataloader.num_workers', 'train_dataloader.sampler'),
    *('train_dataloader.dataset', 'train_dataloader.persistent_workers', 'model'),
    *('param_scheduler', 'param_scheduler.0.end', 'custom_hooks', 'default_hooks'),
    *('default_hooks.checkpoint.interval', 'default_hooks.logger', 'val_evaluator'),
    *('model.distiller', 'model.distiller.distill_losses.loss_kl.tau', 'model.type'),
    *('auto_scale_lr.base_batch_size', 'randomness', 'randomness.seed', 'env_cfg'),
    *('split_ratios', 'split_file', 'class_weight', 'device', 'load_from', 'resume'),
    *('model.teacher_ckpt', 'model.teacher_cache', 'visualizer', 'log_level', 'x', ''),
    *('train_dataloader.prefetch_factor', 'data_preprocessor', '_base_', 'a.b.c', '.'),
]


@target
def option(draw, material, folder) -> Case:
    """Options of the command line, up to where a training would begin."""
    from hkd_mm.config.compose import compose_config
    from hkd_mm.config.value_checks import check_values

    options = []
    for _ in range(draw(st.integers(1, 3))):
        key = draw(st.sampled_from(_OPTIONS))
        value = _short(draw(junk)) if draw(st.booleans()) else str(draw(scalars))
        value = value.encode(errors='surrogatepass').decode(errors='replace')
        options.append(f'{key}={value}')
    options.append(f'data_root={material / "data"}')
    config = draw(st.sampled_from(['hybrid_wrn50_mbv2.py', 'students/mbv2_skin.py']))

    def call():
        cfg = compose_config(str(ROOT / 'configs' / config), options)
        check_values(cfg, 'cpu')

    return Case(call, repr(options))


@target
def config_file(draw, material, folder) -> Case:
    """A child config of junk, or a file that is none."""
    from hkd_mm.config.compose import compose_config
    from hkd_mm.config.value_checks import check_values

    path = folder / 'child.py'
    base = ROOT / 'configs/students/mbv2_skin.py'
    names = st.sampled_from([key for key in _OPTIONS if key.isidentifier()])
    values = draw(st.dictionaries(names, scalars, max_size=3))
    text = f'_base_ = {str(base)!r}\n{python_of(values)}'
    content = text.encode(errors='surrogatepass')
    if draw(st.integers(0, 3)) == 0:
        content, _ = changed_bytes(draw, content)
    path.write_bytes(content)

    def call():
        cfg = compose_config(str(path), [f'data_root={material / "data"}'])
        check_values(cfg, 'cpu')

    return Case(call, repr(content))
