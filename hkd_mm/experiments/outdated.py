# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Runs whose config, split or code is not the one asked for now."""

import hashlib
import json
import shutil
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

from mmengine.config import Config

from hkd_mm.config.compose import compose_config, config_named
from hkd_mm.config.data_summary import summarize_data
from hkd_mm.datasets.split_file import read_split
from hkd_mm.errors import UserError
from hkd_mm.experiments.plan import Run, Study, split_file
from hkd_mm.training.run_notes import read_stages

KEY = 'study.json'
_PACKAGE = Path(__file__).resolve().parents[1]
# they start runs and use what is left of them
_NOT_OF_RUNS = (
    'apis/children.py',
    'apis/demo/',
    'apis/export/',
    'apis/latency/',
    'apis/predict',
    'apis/report/',
    'apis/study/',
    'apis/sweep/',
)


class Key(NamedTuple):
    """Hashes that a run's figures depend on.

    Args:
        config: of the composed config with its options, and of those of the
            rows and stages it builds on; places on this machine are left out.
        split: of the images and their parts; None where a dataset has none.
        code: of this package's modules.
    """

    config: str
    split: str | None
    code: str


class Keys:
    """Keys of the runs of a study; data is listed once a data set.

    Args:
        study: whose.
        options: of the command line.
        work_dir: where the splits of folds are.
    """

    def __init__(
        self, study: Study, options: list[str], work_dir: Path
    ) -> None:
        self._work_dir = work_dir
        self._rows = {row.name: row for row in study.rows}
        self._options = options
        self._code = code_hash()
        self._of_row: dict[tuple, tuple[str, str | None]] = {}
        self._splits: dict[str, str | None] = {}

    def of(self, run: Run) -> Key:
        """The key that a run has if it is trained now."""
        config, split = self._row(run)
        if run.fold is not None:
            path = split_file(self._work_dir, run.fold)
            split = read_split(path)['hash']
        return Key(_sha(config, run.seed), split, self._code)

    def _row(self, run: Run) -> tuple[str, str | None]:
        options = [
            f'{key}={value}'.replace('{seed}', str(run.seed))
            for key, value in run.row.options.items()
        ]
        asked = (run.row.name, *options)
        if asked not in self._of_row:
            cfg = compose_config(run.row.config, [*options, *self._options])
            built_on = [
                self._row(run._replace(row=self._rows[name]))[0]
                for name in run.row.after
            ]
            stages = [_text(compose_config(path)) for path in _stages(cfg)]
            # folds have splits of their own
            split = self._split(cfg) if run.fold is None else None
            self._of_row[asked] = _sha(_text(cfg), stages, built_on), split
        return self._of_row[asked]

    def _split(self, cfg: Config) -> str | None:
        data = cfg.train_dataloader.dataset
        told = json.dumps(data.to_dict(), sort_keys=True, default=str)
        if told not in self._splits:
            found = summarize_data(cfg, ('train_dataloader',))
            self._splits[told] = found.split_hash
        return self._splits[told]


def _stages(cfg: Config) -> list[str]:
    """Configs that are trained beside a run before it."""
    found = []
    if cfg.model.get('teacher') and not cfg.model.get('teacher_ckpt'):
        found.append('teacher_config')
    if not cfg.model.get('student_ckpt'):
        found.append('previous_stage_config')
    return [config_named(cfg, key) for key in found if cfg.get(key)]


def _text(cfg: Config) -> str:
    """What a config says but for places on this machine."""
    plain = cfg.to_dict()
    for place in ('data_root', 'work_dir'):
        plain.pop(place, None)
    text = json.dumps(plain, sort_keys=True, default=str)
    return text.replace(str(cfg.get('data_root')), '{data_root}')


def changed(folder: Path, key: Key) -> list[str]:
    """What of a run's key is other than it was; ``origin`` if untold."""
    try:
        told = json.loads((folder / KEY).read_text())
    except (OSError, ValueError):
        return ['origin']
    return [
        name for name, value in key._asdict().items() if told[name] != value
    ]


def write_key(folder: Path, key: Key) -> None:
    """Leave the key with the run."""
    (folder / KEY).write_text(json.dumps(key._asdict(), indent=1) + '\n')


def code_hash() -> str:
    """SHA-256 (hex) over this package's modules that a run may use."""
    paths = {
        path.relative_to(_PACKAGE).as_posix(): path
        for path in sorted(_PACKAGE.rglob('*.py'))
    }
    return _sha(
        *(
            (name, path.read_bytes())
            for name, path in paths.items()
            if not name.startswith(_NOT_OF_RUNS)
        )
    )


def _sha(*parts) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()


WAYS = ('refuse', 'keep', 'redo')


def handle_outdated(
    runs: list[Run], keys: Keys, work_dir: Path, way: str
) -> dict[str, list[str]]:
    """Find runs of another config, split or code and do what is wanted.

    Args:
        runs: of the study.
        keys: of the study.
        work_dir: of the study.
        way: ``keep`` takes them as they are, and goes on with those that
            were broken off; ``redo`` moves each to ``<run>_stale<n>``, with
            what its config trains first, so that all is trained again;
            ``refuse`` does neither.

    Returns:
        Name of the run -> what is other about it, of those that are kept.

    Raises:
        UserError: there are some and ``refuse`` is wanted.
    """
    found: dict[str, list[str]] = {}
    for run in runs:
        folder = run.folder(work_dir)
        reasons = changed(folder, keys.of(run)) if _begun(folder) else []
        if not reasons:
            continue
        if way == 'redo':
            # read before the folder is moved
            for old in [*map(Path, read_stages(folder)), folder]:
                if old.exists():
                    _set_aside(old)
        else:
            found[run.name] = reasons
    if found and way == 'refuse':
        raise UserError(
            f'{work_dir} holds {len(found)} runs of another study: '
            f'{_told(found)}; --stale keep takes them as they are, --stale '
            'redo trains them again beside the old ones'
        )
    return found


def _begun(folder: Path) -> bool:
    return (folder / 'metrics.json').exists() or any(folder.glob('epoch_*'))


def _set_aside(folder: Path) -> None:
    number = 1
    while (place := Path(f'{folder}_stale{number}')).exists():
        number += 1
    shutil.move(folder, place)


def _told(found: dict[str, list[str]]) -> str:
    by_reason: dict[str, list[str]] = defaultdict(list)
    for name, reasons in found.items():
        by_reason[' and '.join(reasons)].append(name)
    return '; '.join(
        f'{reason}: {", ".join(names[:3])}'
        + (f' and {len(names) - 3} more' if len(names) > 3 else '')
        for reason, names in by_reason.items()
    )
