# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Every example of docs/extending.md, in a project beside this one."""

import os
import re
import runpy
import shutil
import sys
from pathlib import Path

import pytest
from processes import fork
from tiny import TINY_CLASSES

from hkd_mm.config.compose import read_config
from hkd_mm.errors import UserError

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / 'docs/extending.md').read_text(encoding='utf-8')
FILES = dict(re.findall(r'```python\n(?:# (\S+\.py)\n)(.*?)```', PAGE, re.DOTALL))
CONFIGS = sorted(name for name in FILES if name.startswith('configs/'))
TINY = [
    'classes=[Acne,Benign,Eczema]',
    'split_ratios=(0.5,0.25,0.25)',
    'input_size=16',
    'batch_size=6',
    'max_epochs=1',
]
SMALL = ['teacher=resnet8', 'teacher_config=students/resnet8_skin.py']
OPTIONS = {
    'configs/huber.py': [*SMALL, 'student=resnet8'],
    'configs/gated.py': [*SMALL, 'student=resnet8'],
    'configs/named.py': [
        *SMALL,
        'student=resnet8',
        'dataset_type=hkd_mm.NamedFiles',
    ],
    'configs/three_convs.py': SMALL,
    'configs/layers.py': [
        'teacher=resnet18',
        'input_size=32',
        'pretrained=False',
    ],
}


@pytest.fixture(scope='module')
def project(tmp_path_factory):
    """The folder of the page's files, beside a checkout."""
    parent = tmp_path_factory.mktemp('extending')
    (parent / 'hkd_mm').symlink_to(ROOT)
    for name, text in FILES.items():
        path = parent / 'my_project' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return parent / 'my_project'


@pytest.fixture(scope='module')
def named_data(tiny_data, project):
    """The tiny images in one folder, the class in their names."""
    folder = project.parent / 'named'
    folder.mkdir()
    for name in TINY_CLASSES:
        for path in (tiny_data / name).iterdir():
            shutil.copy(path, folder / f'{name}_{path.stem}.png')
    return folder


def run(project, *commands):
    """What Python programs print that run in the project, one after the other."""

    def begin():
        os.chdir(project)
        sys.path.insert(0, '.')
        for argv in commands:
            sys.argv = argv
            try:
                runpy.run_path(argv[0], run_name='__main__')
            except SystemExit as end:
                assert not end.code

    out = project / 'out.txt'
    out.unlink(missing_ok=True)
    process = fork(begin, out)
    process.join()
    assert process.exitcode == 0, out.read_text()[-3000:]
    return out.read_text()


@pytest.fixture(scope='module')
def trained(project, tiny_data, named_data):
    """Every config of the page is trained, in one process; the project."""
    each = []
    for config in CONFIGS:
        data = named_data if config == 'configs/named.py' else tiny_data
        options = [f'data_root={data}', *TINY, *OPTIONS[config]]
        each.append(['../hkd_mm/tools/train.py', config, '--cfg-options', *options])
    run(project, *each)
    return project


@pytest.mark.slow
@pytest.mark.parametrize('config', CONFIGS)
def test_the_example_trains(config, trained):
    folder = trained / 'work_dirs' / Path(config).stem
    (log,) = folder.glob('*/*.log')
    assert 'distill.loss_' in log.read_text()
    assert list(folder.glob('best_balanced_accuracy_epoch_*.pth'))


def test_layers_are_listed(project):
    said = run(project, ['list_layers.py', 'configs/layers.py'])
    assert 'architecture model.blocks.3 Sequential' in said
    assert 'teacher model.layer3 Sequential' in said


@pytest.mark.parametrize(
    'text, cause',
    [
        ('x = 1\nfrom torch import nothing_here', 'line 2: ImportError: .*no'),
        ('import not_installed_here', 'line 1: ModuleNotFoundError'),
        ('def broken(:', 'line 1: SyntaxError'),
        (None, 'No module named .*PYTHONPATH=.'),
    ],
)
def test_a_custom_import_that_fails_names_its_cause(text, cause, tmp_path, monkeypatch):
    name = f'mine_{abs(hash(cause))}'
    if text is not None:
        (tmp_path / f'{name}.py').write_text(text)
        cause = rf'{name}\.py, {cause}'
    config = tmp_path / 'config.py'
    config.write_text(f'custom_imports = dict(imports=[{name!r}])')
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(UserError, match=cause) as caught:
        read_config(config)
    assert '\n' not in str(caught.value)
