# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Tools that only act, so that whole sweeps take seconds."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from processes import ForkedTool

from hkd_mm.experiments import child_processes

ROOT = Path(__file__).resolve().parents[2]
pytest.importorskip('optuna')

# Options: alpha decides the figure, mode what happens.
TRAIN = """
import fcntl, json, os, pathlib, sys, time
sys.path.insert(0, {root!r})
folder = pathlib.Path(sys.argv[sys.argv.index('--work-dir') + 1])
folder.mkdir(parents=True, exist_ok=True)
told = dict(word.split('=', 1) for word in sys.argv if '=' in word)
alpha, seed, mode = float(told['alpha']), int(told['seed']), told.get('mode')
diary = folder.parent.parent / 'diary'
def say(word):
    with diary.open('a') as stream:
        stream.write(f'{{word}} {{folder.name}}\\n')
handle = open(folder / 'own', 'w')
try:
    fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
except OSError:
    say('twice')
say('resume' if '--resume' in sys.argv else 'train')
if 'HKD_MM_PARENT' in os.environ and mode == 'slow':
    from hkd_mm.io.processes import die_with_parent
    die_with_parent()
if mode == 'broken' and alpha == 0.1:
    print('error: it is broken')
    sys.exit(2)
if mode == 'killed' and alpha == 0.1:
    os.kill(os.getpid(), 9)
score = 1 - (alpha - 0.4) ** 2 + seed / 100
nan = mode == 'nan' and alpha == 0.1
records = []
begun = len(list(folder.glob('epoch_*.pth')))
for epoch in range(1, 4):
    if epoch <= begun:
        continue
    value = None if nan else score - 0.1 * (3 - epoch)
    records.append(dict(epoch=epoch, val=dict(balanced_accuracy=value)))
    text = json.dumps(records)
    (folder / 'part').write_text(text)
    # the checkpoint first: tests that see the history may kill at once
    (folder / f'epoch_{{epoch}}.pth').touch()
    (folder / 'part').rename(folder / 'history.json')
    end = time.monotonic() + 300 * (mode == 'slow' and epoch == 1 and not begun)
    while time.monotonic() < end and not diary.with_name('go').exists():
        time.sleep(0.05)
    time.sleep(0.4 if mode == 'epochs' else 0)
best = dict(balanced_accuracy=None if nan else score)
(folder / 'student.pth').touch()
(folder / 'metrics.json').write_text(
    json.dumps(dict(training_minutes=1.0, epochs=3, best=best)))
say('trained')
"""
TEST = """
import json, pathlib, runpy, sys
folder = pathlib.Path(sys.argv[sys.argv.index('--work-dir') + 1]).parent
outs = runpy.run_path({root!r} + '/tools/test.py')['parse_args']().out
outs = {{pathlib.Path(out).name: pathlib.Path(out) for out in outs}}
with (folder.parent.parent / 'diary').open('a') as stream:
    stream.write(f'test {{folder.name}}\\n')
told = dict(word.split('=', 1) for word in sys.argv if '=' in word)
outs['test.json'].write_text(
    json.dumps(dict(balanced_accuracy=float(told['alpha']), top1=0.25)))
outs['predictions.csv'].write_text('')
"""
SWEEP = """
import pathlib, runpy, sys, types
sys.path.insert(0, {root!r})
# slow to load, and no sweep's business
sys.modules['hkd_mm.engine.environment'] = types.SimpleNamespace(
    collect_environment=dict)
from hkd_mm.experiments import child_processes, trial_queue
child_processes.TOOLS = pathlib.Path(__file__).parent
if '--teacher-of' in sys.argv:  # this one would train for real
    place = pathlib.Path(sys.argv[sys.argv.index('--work-dir') + 1])
    place.mkdir(parents=True, exist_ok=True)
    with (place.parent.parent / 'diary').open('a') as stream:
        stream.write(f'teacher {{" ".join(sys.argv[6:])}}\\n')
    (place / 'teacher.json').write_text('{{"checkpoint": null}}')
    sys.exit()
child_processes.LOOK = trial_queue.PAUSE = 0.1
sys.exit(runpy.run_path({root!r} + '/tools/sweep.py')['main']())
"""
CONFIG = "alpha = 0.5\nmode = ''\ndata_root = None\ntau = 4.0\n"


class Place:
    """A sweep on tools that only act.

    Args:
        folder: for all of it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.work = folder, folder / 'work'
        (folder / 'tools').mkdir()
        for name, text in dict(train=TRAIN, test=TEST, sweep=SWEEP).items():
            path = folder / 'tools' / f'{name}.py'
            path.write_text(text.format(root=str(ROOT)))
        (folder / 'config.py').write_text(CONFIG)

    def write(self, text: str) -> None:
        """Leave the sweep file."""
        config = f'config = {str(self.folder / "config.py")!r}\n'
        (self.folder / 's.py').write_text(config + text)

    def start(self, *words: str) -> subprocess.Popen:
        """Begin the sweep in a process of its own, with processes of its own."""
        return subprocess.Popen(
            self._command(*words),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, 'CUDA_VISIBLE_DEVICES': ''},
            preexec_fn=_take_interrupts,
        )

    def sweep(self, *words: str, code: int = 0, env=None) -> str:
        """Run the sweep to its end in forks; what it printed."""
        env = {'CUDA_VISIBLE_DEVICES': '', **(env or {})}
        with open(self.folder / 'said', 'w') as stream:
            found = ForkedTool(self._command(*words), stream, env).wait(240)
        said = (self.folder / 'said').read_text()
        assert found == code, said
        return said

    def _command(self, *words: str) -> list[str]:
        tool = str(self.folder / 'tools/sweep.py')
        place = [str(self.folder / 's.py'), '--work-dir', str(self.work)]
        return [sys.executable, tool, *place, *words]

    def diary(self, word: str) -> list[str]:
        """Runs of which the tools noted this."""
        path = self.work / 'diary'
        lines = path.read_text().split('\n') if path.is_file() else []
        return sorted(line.split()[1] for line in lines if line.startswith(f'{word} '))

    def told(self) -> dict:
        """What ``sweep.json`` says."""
        return json.loads((self.work / 'sweep.json').read_text())

    def wait_for(self, found) -> None:
        """Until something is so."""
        deadline = time.monotonic() + 200
        while not found():
            assert time.monotonic() < deadline, self.story()
            time.sleep(0.05)

    def story(self) -> str:
        """What has happened, for whom a test does not end."""
        logs = ['diary', 'workers/*.log', 'trials/*/console.log']
        paths = [path for log in logs for path in self.work.glob(log)]
        told = [f'{path}:\n{path.read_text()}' for path in sorted(paths)]
        runs = sorted(str(p) for p in self.work.glob('runs/*/*'))
        return '\n'.join([*told, *runs])


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setattr(child_processes, 'start', ForkedTool)
    return Place(tmp_path)


def _take_interrupts() -> None:
    """Ignored in whatever was started in the background."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
