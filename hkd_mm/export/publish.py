# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Pack an export, check it, and upload it to a hub."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from hkd_mm.engine.run_files import finished_run
from hkd_mm.errors import UserError
from hkd_mm.export.checks import same_logits
from hkd_mm.inference.manifest import read_manifest, write_manifest
from hkd_mm.inference.manifest_fields import FILE, Manifest, file_spec
from hkd_mm.inference.student import TAKES, read_student
from hkd_mm.io.input_spec import normalised


def upload(folder: Path, name: str, private: bool = True) -> str:
    """Make the repository where there is none, and upload the folder.

    Args:
        folder: of :func:`.pack.publish`.
        name: ``owner/name``.
        private: of a repository that is made; one that is there stays what
            it is.

    Returns:
        Address of what was uploaded.

    Raises:
        UserError: huggingface_hub is missing, nobody is logged in, or the
            Hub refuses; the folder stays.
    """
    try:
        from huggingface_hub import HfApi
    except ImportError:
        raise UserError(
            '--hub needs huggingface_hub: pip install huggingface_hub'
        ) from None
    api = HfApi()
    try:
        api.create_repo(name, private=private, exist_ok=True)
        made = api.upload_folder(folder_path=folder, repo_id=name)
    except Exception as error:  # of the Hub, its client, or the network
        lines = [line for line in str(error).splitlines() if line.strip()]
        why = lines[0].strip() if lines else type(error).__name__
        raise UserError(
            f'{name} could not be uploaded ({why}); log in with `hf auth '
            f'login`, then upload {folder}: the same command with a new --out'
        ) from None
    return str(made)


WEIGHTS = 'student.safetensors'


def check_weights(weights: Path, exported: Path, manifest: Manifest) -> None:
    """Hold the weights of a run against those that were exported.

    Args:
        weights: ``student.pth``.
        exported: folder of the export.
        manifest: of the export.

    Raises:
        UserError: the run was trained again since, or is another.
    """
    if not manifest.made_of(weights):
        raise UserError(
            f'{exported} was not made of {weights} as it is now; export the '
            'run again'
        )


def check_packed(
    out: Path, manifest: Manifest, say: Callable[[str], None]
) -> None:
    """Load what was packed, as whoever is given it will.

    Args:
        out: the packed folder.
        manifest: of it.
        say: told where there is nothing to hold the weights against.

    Raises:
        UserError: the weights and the float32 graph answer differently.
    """
    spec = manifest.input
    rng = np.random.default_rng(0)
    shape = (1, spec.channels, *spec.size)
    images = normalised(rng.integers(0, 2**spec.bits, shape), spec)
    networks = ['torch', 'onnx'] if 'fp32' in manifest.files else ['torch']
    found = [
        read_student(out, network, 'fp32', manifest.task)
        .load(None, 'cpu')
        .logits(images)
        for network in networks
    ]
    if len(found) == 1:
        say(f'warning: no float32 graph to hold {WEIGHTS} against')
        return
    same_logits(
        *found,
        f'{manifest.files["fp32"].path} does not answer as {WEIGHTS} does',
        'export the run again',
    )


CARD = 'README.md'
_FIGURES = ('metrics.json', 'test.json')


def main(hub: str | None, public: bool, **options) -> None:
    """Pack as the command line says, and upload where it says so."""
    folder = publish(**options)
    if hub:
        print(f'uploaded to {upload(folder, hub, not public)}')


def publish(
    run_dir: str | Path,
    out: str | Path,
    licence: str | None = None,
    say: Callable[[str], None] = print,
) -> Path:
    """Pack an exported run into one folder.

    It holds the files of the export, the weights as safetensors with the
    network's config in their header, the config of the run without the places
    of this machine, its figures, the card, and a manifest with the hash of
    each network. The packed folder is loaded and asked before it is called
    done.

    Args:
        run_dir: work dir of a finished run with an ``export`` in it.
        out: a folder that does not exist yet, or an empty one.
        licence: of the weights, in words; that of the export by default.
        say: takes lines on what is done.

    Returns:
        The folder.

    Raises:
        UserError: there is no export or it is of another run, the folder
            holds something, or what was packed does not answer alike.
    """
    run, out = Path(run_dir), Path(out)
    exported = _export_of(run)
    manifest = read_manifest(exported)
    check_weights(run / 'student.pth', exported, manifest)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(
            f'--out {out} holds something already; give a new folder'
        )
    out.mkdir(parents=True, exist_ok=True)
    try:
        manifest = _fill(out, run, exported, manifest, licence)
        check_packed(out, manifest, say)
    except BaseException:  # half a folder is none
        shutil.rmtree(out)
        raise
    size = sum(file.bytes for file in manifest.files.values())
    say(f'packed {out}: {size / 1e6:.1f} MB')
    return out


def _fill(
    out: Path,
    run: Path,
    exported: Path,
    manifest: Manifest,
    licence: str | None,
) -> Manifest:
    files = dict(manifest.files)
    for kind, spec in files.items():
        shutil.copy2(manifest.file_of(exported, kind), out / spec.path)
    _write_weights(run / 'student.pth', out / WEIGHTS)
    files['torch'] = file_spec(out / WEIGHTS, 'tensor', 'logits')
    for name in _FIGURES:
        if (run / name).is_file():
            shutil.copy2(run / name, out / name)
    _write_config(finished_run(run).config, out / 'config.py')
    manifest = replace(
        manifest, files=files, licence=licence or manifest.licence
    )
    _write_card(exported, out, manifest, licence)
    write_manifest(manifest, out)
    return manifest


def _export_of(run: Path) -> Path:
    exported = run / 'export'
    if not (exported / FILE).is_file():
        raise UserError(
            f'{run} has no export; make one first: python tools/export.py '
            f'{run}'
        )
    finished_run(run)
    return exported


def _write_weights(source: Path, target: Path) -> None:
    """The plain student, its ``meta`` as JSON in the header."""
    from safetensors.torch import save_file

    from hkd_mm.io.checkpoints import safe_load

    loaded = safe_load(source)
    meta = json.dumps(loaded['meta'], sort_keys=True)
    state = {
        name: value.contiguous()
        for name, value in loaded['state_dict'].items()
    }
    save_file(state, target, dict(hkd_mm=meta, format='pt'))
    shutil.copymode(source, target)  # safetensors lets nobody else read it


def _write_config(source: Path, target: Path) -> None:
    from mmengine.config import Config

    cfg = Config.fromfile(source)
    told = without_places(cfg.to_dict())
    Config(told).dump(target)


def without_places(value: Any) -> Any:
    """A config whose absolute paths are their last names only."""
    if isinstance(value, dict):
        return {k: without_places(item) for k, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(without_places(item) for item in value)
    if isinstance(value, str) and Path(value).is_absolute():
        return Path(value).name
    return value


def _write_card(
    exported: Path, out: Path, manifest: Manifest, licence: str | None
) -> None:
    """The card of the export under the header that the Hub reads."""
    card = (exported / CARD).read_text(encoding='utf-8')
    if licence:
        old = read_manifest(exported).licence
        card = card.replace(f'Licence: {old}.', f'Licence: {licence}.')
    head = (
        '---\nlicense: other\nlibrary_name: hkd_mm\n'
        f'pipeline_tag: image-{manifest.task}\ntags:\n- medical\n'
        '- knowledge-distillation\n- onnx\n---\n\n'
    )
    line = (
        f'\n`{WEIGHTS}` holds the weights for torch, '
        f'{manifest.files["torch"].bytes / 1e6:.2f} MB; '
        f"`{TAKES[manifest.task].rsplit('.', 1)[-1]}.from_pretrained('.')` "
        'takes this folder.\n'
    )
    (out / CARD).write_text(head + card + line, encoding='utf-8')
