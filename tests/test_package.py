# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""The package as a whole: what is installed, what importing it costs."""

import email
import importlib
import os
import shutil
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest
from exported import WITHOUT_TRAINING
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

import hkd_mm
from hkd_mm import registry

ROOT = Path(__file__).resolve().parents[1]
REGISTRIES = [
    item
    for item in vars(registry).values()
    if isinstance(item, registry.Registry) and item.scope == 'hkd_mm'
]


def project_files() -> list[Path]:
    """Files of the project, relative: what git tracks or would track."""
    listed = subprocess.run(
        ['git', 'ls-files', '-co', '--exclude-standard'],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split('\n')
    return [Path(name) for name in listed if name and (ROOT / name).is_file()]


def requirements(name: str) -> list[Requirement]:
    lines = (ROOT / f'requirements/{name}.txt').read_text().splitlines()
    lines = [line.split('#')[0].strip() for line in lines]
    return [Requirement(line) for line in lines if line]


@pytest.fixture(scope='module')
def project_copy(tmp_path_factory) -> Path:
    """A copy of the project with the remains of an earlier build."""
    copy = tmp_path_factory.mktemp('package') / 'project'
    for name in project_files():
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, copy / name)
    remains = copy / 'build/lib/hkd_mm'
    remains.mkdir(parents=True)
    (remains / 'deleted_long_ago.py').write_text('')
    return copy


def build(copy: Path, kind: str) -> Path:
    """Call the build backend as pip does; return the wheel."""
    out = copy.parent / kind
    out.mkdir(exist_ok=True)
    subprocess.run(
        [
            sys.executable,
            '-c',
            'import setuptools.build_meta as backend; '
            f'backend.build_{kind}({str(out)!r})',
        ],
        cwd=copy,
        check=True,
        capture_output=True,
        text=True,
    )
    return next(out.glob('*.whl'))


@pytest.fixture(scope='module')
def wheel_file(project_copy) -> Path:
    return build(project_copy, 'wheel')


def test_wheel_carries_configs_and_tools_where_mim_looks(wheel_file):
    with zipfile.ZipFile(wheel_file) as wheel:
        names = set(wheel.namelist())
        for name in project_files():
            top = name.parts[0]
            inside = {
                'hkd_mm': str(name),
                'configs': f'hkd_mm/.mim/{name}',
                'tools': f'hkd_mm/.mim/{name}',
                'models': f'hkd_mm/.mim/{name}',
                'model-index.yml': f'hkd_mm/.mim/{name}',
            }.get(top)
            if inside is not None:
                assert wheel.read(inside) == (ROOT / name).read_bytes()
        info = next(name for name in names if name.endswith('/METADATA'))
        described = email.message_from_bytes(wheel.read(info))
    assert 'hkd_mm/deleted_long_ago.py' not in names
    assert not any(name.startswith(('tests/', 'configs/')) for name in names)
    assert described['Version'] == hkd_mm.__version__
    assert described['Requires-Python'] == '>=3.10'
    assert set(described.get_all('Provides-Extra')) == {
        'tests',
        'optional',
        'all',
    }
    needed = {
        Requirement(line).name
        for line in described.get_all('Requires-Dist')
        if 'extra ==' not in line
    }
    assert needed == {
        item.name for kind in ('runtime', 'mminstall') for item in requirements(kind)
    }


_BY_NAME = f"""{WITHOUT_TRAINING}
from hkd_mm.apis import SkinClassifier
from hkd_mm.serve.predictor import predict
[image] = sys.argv[1:]
classifier = SkinClassifier.from_pretrained('ham10000')
print(classifier.student.weights)
print(predict([image])['images'])
"""


def test_the_student_of_a_wheel_answers_by_name(wheel_file, tmp_path, write_image):
    pytest.importorskip('onnx')
    pytest.importorskip('onnxruntime')
    installed, image = tmp_path / 'installed', write_image(tmp_path / 'a.png')
    with zipfile.ZipFile(wheel_file) as wheel:
        wheel.extractall(installed)
    ran = subprocess.run(
        [sys.executable, '-c', _BY_NAME, image],
        cwd=tmp_path,
        env=dict(os.environ, PYTHONPATH=str(installed)),
        check=True,
        capture_output=True,
        text=True,
    )
    inside = installed / 'hkd_mm/.mim/models/ham10000_small'
    assert ran.stdout.split() == [str(inside / 'student.onnx'), '1']
    assert ran.stderr.startswith('ham10000: ')
    [licence] = installed.glob('*.dist-info/licenses/models/ham10000_small/LICENSE')
    assert licence.read_bytes() == (inside / 'LICENSE').read_bytes()


def test_editable_install_links_and_can_be_repeated(project_copy):
    stale = project_copy / 'hkd_mm/.mim/tools'
    stale.mkdir(parents=True)
    (stale / 'from_an_older_install.py').write_text('')
    for _ in range(2):
        build(project_copy, 'editable')
        for name in ('configs', 'tools', 'models', 'model-index.yml'):
            link = project_copy / 'hkd_mm/.mim' / name
            assert link.is_symlink()
            assert not os.path.isabs(os.readlink(link))
            assert link.resolve() == project_copy / name
    assert (project_copy / 'tools/_env.sh').is_file()


@pytest.mark.parametrize('name', hkd_mm._WINDOWS)
@pytest.mark.parametrize('found', ['0.0.1', '99.0', None])
def test_version_outside_its_window_names_the_mending_command(name, found, monkeypatch):
    accepted, lowest, refused, best = hkd_mm._WINDOWS[name]
    command = f'pip install "{accepted.split()[0]}>={best},<{refused}"'
    real = metadata.distributions

    def distributions(name: str) -> list:
        if name not in accepted.split():
            return list(real(name=name))
        return [] if found is None else [SimpleNamespace(version=found)]

    monkeypatch.setattr(metadata, 'distributions', distributions)
    with pytest.raises(ImportError) as caught:
        hkd_mm.check_versions()
    message = str(caught.value)
    assert name in message and command in message and '\n' not in message
    assert found is None or (
        found in message and lowest in message and refused in message
    )


def test_windows_and_requirements_agree():
    needed = {item.name: item.specifier for item in requirements('mminstall')}
    for distributions, lowest, refused, best in hkd_mm._WINDOWS.values():
        assert Version(lowest) <= Version(best) < Version(refused)
        name = distributions.split()[0]
        assert needed.pop(name) == SpecifierSet(f'>={best},<{refused}')
    assert not needed


@pytest.mark.parametrize('item', REGISTRIES, ids=lambda item: item.name)
def test_every_registry_location_imports(item):
    for location in item._locations:
        importlib.import_module(location)
    assert len(item) > 0, 'a registry without a tenant'


@pytest.mark.parametrize('item', REGISTRIES, ids=lambda item: item.name)
def test_what_is_registered_is_exported_by_its_packages(item):
    len(item)  # imports the locations
    for found in item.module_dict.values():
        if not found.__module__.startswith('hkd_mm.'):
            continue  # registered by another test
        package, _, _ = found.__module__.rpartition('.')
        while package != 'hkd_mm':
            module = importlib.import_module(package)
            assert getattr(module, found.__name__) is found
            assert found.__name__ in module.__all__
            package, _, _ = package.rpartition('.')


def _run(*command: str, **kwargs) -> subprocess.CompletedProcess:
    environment = dict(os.environ, PYTHONPATH=str(ROOT))
    return subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        check=True,
        env=environment,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        **kwargs,
    )


@pytest.mark.parametrize('tool', ['train', 'test'])
def test_help_is_quick_and_imports_no_torch(tool):
    before = os.times()
    ran = _run('-X', 'importtime', f'tools/{tool}.py', '--help')
    after = os.times()
    assert '--cfg-options' in ran.stdout
    imported = {
        line.rsplit('|')[-1].strip().split('.')[0] for line in ran.stderr.splitlines()
    }
    assert not imported & {'torch', 'mmengine', 'mmcv', 'numpy'}
    assert (
        after.children_user
        + after.children_system
        - before.children_user
        - before.children_system
    ) < 2


def test_importing_hkd_mm_imports_no_heavy_bystander():
    ran = _run('-c', 'import hkd_mm, sys; print(*sys.modules)')
    bystanders = {
        'cv2',
        'matplotlib',
        'mmcv',
        'mmpretrain',
        'mmrazor.models',
        'sklearn',
        'timm',
        'torch',
        'torchvision',
    }
    assert not bystanders & set(ran.stdout.split())


def test_no_file_is_larger_than_a_megabyte():
    sizes = {name: (ROOT / name).stat().st_size for name in project_files()}
    large = [
        f'{name}: {size}'
        for name, size in sizes.items()
        if size > (4_000_000 if name.match('models/*/student*.onnx') else 2**20)
    ]
    assert large == []


def test_no_weights_but_those_of_the_students_that_come_along():
    kinds = '.onnx .pth .pt .pte .ckpt .safetensors .h5 .npz .npy .pkl'.split()
    files = (name for name in project_files() if name.suffix in kinds)
    assert [n for n in files if not n.match('models/*/student*.onnx')] == []


def test_every_python_file_has_the_licence_line():
    files = [
        name
        for name in project_files()
        if name.suffix == '.py'
        and name.parts[0] in ('hkd_mm', 'tools', 'tests', 'setup.py')
    ]
    assert len(files) > 20
    lacking = [
        str(name)
        for name in files
        if not (ROOT / name)
        .read_text()
        .startswith('# Copyright (c) hkd_mm contributors. Licensed under ')
        and not (ROOT / name).read_text().startswith('#!')
    ]
    assert lacking == []
