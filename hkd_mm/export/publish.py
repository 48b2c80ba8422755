# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Pack an export, check it, and upload it to a hub."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config

from hkd_mm.engine.run_files import STUDENT, finished_run
from hkd_mm.errors import UserError, first_line
from hkd_mm.export.card import hub_licence, licence_text, packed_card
from hkd_mm.export.checks import same_logits
from hkd_mm.export.export_run import CARD
from hkd_mm.inference import manifest as manifests
from hkd_mm.inference.student import read_student
from hkd_mm.io.checkpoints import safe_load
from hkd_mm.io.input_spec import normalised
from hkd_mm.io.markup import clean
from hkd_mm.lazy import require

WEIGHTS = 'student.safetensors'
LICENCE_FILE = 'LICENSE'
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
    report: Callable[[str], None] = print,
    attribution: str | None = None,
    onnx_only: bool = False,
) -> Path:
    """Pack an exported run into one folder, ``out``, which does not exist or is empty.

    The weights become safetensors with the network's config in their header; the config
    of the run loses the paths of this machine. The packed folder is loaded and its
    networks are compared.

    Args:
        licence: by default that of the export; one that is given gets a file.
        attribution: of the images, as their licence asks for it.
        onnx_only: leave out what is for torch, and the figures.
    """
    run, out = Path(run_dir), Path(out)
    exported, weights = run / 'export', run / STUDENT
    if not all((exported / name).is_file() for name in (manifests.FILE, CARD)):
        raise UserError(
            f'{run} has no whole export; make one first: python tools/export.py {run}'
        )
    config = finished_run(run).config
    manifest = manifests.read_manifest(exported)
    if not manifest.made_of(weights):
        raise UserError(
            f'{exported} was not made of {weights} as it is now; export the run again'
        )
    if onnx_only and 'fp32' not in manifest.files:
        raise UserError(
            f'{exported} has no float32 graph for --onnx-only; export the run again'
        )
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f'--out {out} holds something already; give a new folder')
    out.mkdir(parents=True, exist_ok=True)
    try:
        for kind, spec in manifest.files.items():
            shutil.copy2(manifest.file_of(exported, kind), out / spec.path)
        manifest = replace(manifest, licence=licence or manifest.licence)
        if not onnx_only:
            _write_weights(weights, out / WEIGHTS)
            for name in _FIGURES:
                if (run / name).is_file():
                    shutil.copy2(run / name, out / name)
            cfg = Config.fromfile(config).to_dict()
            Config(without_paths(cfg)).dump(out / 'config.py')
            torch = manifests.file_spec(out / WEIGHTS, 'tensor', 'logits')
            manifest = replace(manifest, files=dict(manifest.files, torch=torch))
        card = (exported / CARD).read_text('utf-8', 'replace')
        card = packed_card(card, manifest, WEIGHTS, attribution)
        (out / CARD).write_text(card, 'utf-8')
        if licence or attribution:
            text = licence_text(manifest.licence, attribution)
            (out / LICENCE_FILE).write_text(text, 'utf-8')
        manifests.write_manifest(manifest, out)
        _check_packed(out, manifest, report)
    except BaseException:  # half a folder is none
        shutil.rmtree(out)
        raise
    if licence and not hub_licence(licence):
        report(
            f'warning: the Hub has no id of the licence "{clean(licence)}", so the '
            'header of the card says "other"; ids such as cc-by-nc-4.0 are listed at '
            'https://huggingface.co/docs/hub/repositories-licenses'
        )
    size = sum(file.bytes for file in manifest.files.values())
    report(f'packed {out}: {size / 1e6:.1f} MB')
    return out


def _write_weights(source: Path, target: Path) -> None:
    """Write the plain student, its ``meta`` as JSON in the header."""
    from safetensors.torch import save_file

    loaded = safe_load(source)
    meta = json.dumps(loaded['meta'], sort_keys=True)
    state = {name: value.contiguous() for name, value in loaded['state_dict'].items()}
    save_file(state, target, dict(hkd_mm=meta, format='pt'))
    shutil.copymode(source, target)  # safetensors lets nobody else read it


def without_paths(value: Any) -> Any:
    """Cut the absolute paths in a config to their last names."""
    if isinstance(value, dict):
        return {k: without_paths(item) for k, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(without_paths(item) for item in value)
    if isinstance(value, str) and Path(value).is_absolute():
        return Path(value).name
    return value


def _check_packed(
    out: Path, manifest: manifests.Manifest, report: Callable[[str], None]
) -> None:
    """Load the packed folder, as whoever is given it will."""
    spec = manifest.input
    rng = np.random.default_rng(0)
    shape = (1, spec.channels, *spec.size)
    images = normalised(rng.integers(0, 2**spec.bits, shape), spec)
    found = dict(torch='torch', fp32='onnx')  # the kind of a file: what loads it
    backends = [found[kind] for kind in found if kind in manifest.files]
    students = [read_student(out, kind, 'fp32', manifest.task) for kind in backends]
    logits = [student.load(None, 'cpu').logits(images) for student in students]
    if backends == ['torch']:
        report(f'warning: no float32 graph to compare {WEIGHTS} with')
    if len(logits) == 1:
        return
    same_logits(
        *logits,
        wrong=f'{manifest.files["fp32"].path} does not answer as {WEIGHTS} does',
        remedy='export the run again',
    )


def upload(folder: Path, name: str, private: bool = True) -> str:
    """Upload a folder to the repository ``owner/name``, made if missing; its address.

    An existing repository stays public or private as it is.
    """
    api = require('huggingface_hub', '--hub', 'huggingface_hub').HfApi()
    try:
        api.create_repo(name, private=private, exist_ok=True)
        made = api.upload_folder(folder_path=folder, repo_id=name)
    except Exception as error:  # of the Hub, its client, or the network
        raise UserError(
            f'{name} could not be uploaded ({first_line(error)}); log in with `hf auth '
            f'login`, then upload {folder}: the same command with a new --out'
        ) from None
    return str(made)
