# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""The shell scripts: they parse, and the environment is made when needed."""

import ast
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = sorted([ROOT / '.ci/run', *(ROOT / 'tools').rglob('*.sh')])

PROGRAMS = [  # a name with _ is of a module that programs share
    path
    for path in sorted((ROOT / 'tools').rglob('[!_]*.py'))
    if re.search(r'^ *(from|import) hkd_mm\b', path.read_text(), re.M)
]


def bash(command: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        ['bash', '-c', command],
        env=dict(os.environ, **environment),
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )


@pytest.mark.parametrize('script', SCRIPTS, ids=lambda path: path.name)
def test_script_parses(script):
    assert bash(f'bash -n "{script}"').stderr == ''
    assert script.read_text().startswith(('#!', '# Copyright'))


@pytest.mark.parametrize('program', PROGRAMS, ids=lambda path: path.name)
def test_program_finds_the_clone_that_it_lies_in(program):
    """Also where hkd_mm is not installed, or elsewhere."""
    body = ast.parse(program.read_text()).body
    assert ast.unparse(body[-1].test) == "__name__ == '__main__'"
    if any(
        getattr(item, 'module', None) == '_common'
        or ast.unparse(item).startswith('import _common')
        for item in body
    ):  # the benchmarks share a line, which runs before hkd_mm is imported
        common = program.parent / '_common.py'
        text = [ast.unparse(item) for item in ast.parse(common.read_text()).body]
        place = text.index('sys.path.insert(0, str(ROOT))')
        assert place < text.index('import hkd_mm')
        assert 'ROOT = Path(__file__).resolve().parents[2]' in text[:place]
        assert common.resolve().parents[2] == ROOT
        return
    text = [ast.unparse(item) for item in body]
    first = next(i for i, t in enumerate(text) if 'sys.path.insert(0, ' in t)
    assert not any('hkd_mm' in line for line in text[1:first])
    place = eval(
        ast.unparse(body[first].value.args[1]),
        dict(Path=Path, __file__=str(program)),
    )
    assert place == str(ROOT)


@pytest.mark.parametrize('script', ['train', 'test'])
@pytest.mark.parametrize(
    ('environment', 'meeting'),
    [
        ({}, ['--nnodes=1', '--standalone', '--local_addr=127.0.0.1']),
        (
            dict(PORT='29511'),
            [
                '--nnodes=1',
                '--node_rank=0',
                '--master_addr=127.0.0.1',
                '--master_port=29511',
            ],
        ),
        (
            dict(NNODES='2', NODE_RANK='1', MASTER_ADDR='a'),
            [
                '--nnodes=2',
                '--node_rank=1',
                '--master_addr=a',
                '--master_port=29500',
            ],
        ),
    ],
)
def test_jobs_of_one_machine_take_a_free_port(script, environment, meeting):
    for name in ('PORT', 'NNODES', 'NODE_RANK', 'MASTER_ADDR'):
        environment.setdefault(name, '')
    words = ['c.py', 'w.pth', '3'] if script == 'test' else ['c.py', '3']
    ran = bash(
        f'bash {ROOT}/tools/dist_{script}.sh {" ".join(words)} --x',
        PYTHON='echo',
        **environment,
    )
    assert ran.returncode == 0, ran.stderr
    said = ran.stdout.split()
    assert said[:2] == ['-m', 'torch.distributed.run']
    assert said[2 : -len(words) - 3] == [*meeting, '--nproc_per_node=3']
    assert said[-len(words) - 2 : -1] == [*words[:-1], '--launcher', 'pytorch']


def test_ci_runs_what_the_readme_tells_a_person_to_run():
    lines = [
        line
        for line in (ROOT / '.ci/run').read_text().splitlines()
        if line and not line.startswith(('#', 'set ', 'cd '))
    ]
    assert lines == ['bash tools/dev/lint.sh', 'bash tools/run_tests.sh']
    assert os.access(ROOT / '.ci/run', os.X_OK)
    assert 'bash tools/run_tests.sh' in (ROOT / 'README.md').read_text()


@pytest.mark.parametrize(
    ('environment', 'said'),
    [
        (dict(HKD_PYTHON='/no/such/python'), 'HKD_PYTHON=/no/such/python'),
        (dict(HKD_VENV='/proc/no/place'), 'HKD_VENV'),
    ],
)
def test_what_cannot_work_is_told_in_one_line(environment, said, tmp_path):
    environment.setdefault('HKD_VENV', str(tmp_path / 'venv'))
    ran = bash(f'bash {ROOT}/tools/run_tests.sh', **environment)
    assert ran.returncode == 2
    assert ran.stderr.startswith('error: ') and said in ran.stderr
    assert ran.stderr.count('\n') == 1


def test_environment_is_reused_until_a_requirement_changes(tmp_path):
    for name in (
        'tools',
        'requirements',
        'hkd_mm',
        'setup.py',
        'pyproject.toml',
    ):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy2
        copy(ROOT / name, tmp_path / name)
    # In the place of pip: one line in a file for every installation.
    script = f'''source {tmp_path}/tools/_env.sh
        _hkd_install() {{
          mkdir -p "$HKD_VENV/bin"
          ln -sf "$(command -v "$1")" "$HKD_VENV/bin/python"
          echo installed >>{tmp_path}/calls
          _hkd_stamp >"$2"
        }}
        hkd_env && echo "$HKD_PY"'''
    calls = []
    for change in ('', '', 'another-package>=1\n', ''):
        with open(tmp_path / 'requirements/runtime.txt', 'a') as stream:
            stream.write(change)
        ran = bash(script, HKD_VENV=f'{tmp_path}/venv')
        assert ran.stdout == f'{tmp_path}/venv/bin/python\n', ran.stderr
        calls.append(len((tmp_path / 'calls').read_text().split()))
    assert calls == [1, 1, 2, 2]
