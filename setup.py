# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Build hkd_mm, with configs, tools and models where ``mim`` looks for them."""

import atexit
import os
import re
import shutil
import tempfile
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
MIM = ('configs', 'tools', 'models', 'model-index.yml')


def read_version() -> str:
    """Read the version without importing the package (which needs torch)."""
    text = (ROOT / 'hkd_mm' / 'version.py').read_text(encoding='utf-8')
    return re.search(r"^__version__ = '([^']+)'$", text, re.M).group(1)


def parse_requirements(name: str) -> list[str]:
    """List the requirements of requirements/<name>.txt, without comments."""
    text = (ROOT / 'requirements' / f'{name}.txt').read_text(encoding='utf-8')
    lines = (line.partition('#')[0].strip() for line in text.splitlines())
    return [line for line in lines if line]


def add_mim_extension(package: Path, editable: bool) -> None:
    """Put configs, tools, models and model-index.yml under ``<package>/.mim``.

    Args:
        package: the folder of hkd_mm in the build tree, or, for an editable
            install, in the source tree.
        editable: link (relative symlinks, which git ignores) instead of copy.
    """
    mim = package / '.mim'
    if mim.is_symlink() or mim.is_file():
        mim.unlink()
    mim.mkdir(parents=True, exist_ok=True)
    for name in MIM:
        source, target = ROOT / name, mim / name
        if target.is_symlink() or target.is_file():
            target.unlink()  # never follows a link into the source
        elif target.is_dir():
            shutil.rmtree(target)
        if editable:
            try:
                target.symlink_to(os.path.relpath(source, mim))
                continue
            except (OSError, NotImplementedError):
                pass  # no symlinks on this file system: copy
        if source.is_dir():
            shutil.copytree(
                source,
                target,
                ignore=shutil.ignore_patterns('__pycache__', '*.py[cod]'),
            )
        else:
            shutil.copy2(source, target)


class BuildWithMim(build_py):
    """``build_py`` that adds ``.mim``; ``editable_wheel`` runs it as well."""

    def run(self) -> None:
        """Build the modules, then copy or link what ``mim`` looks for."""
        if self.editable_mode:
            super().run()
            try:
                add_mim_extension(ROOT / 'hkd_mm', editable=True)
            except OSError as error:
                self.warn(
                    f'hkd_mm/.mim was not made ({error}); '
                    '`mim` will not find configs and tools'
                )
            return
        # Files deleted since an earlier build must not reach the wheel.
        shutil.rmtree(Path(self.build_lib) / 'hkd_mm', ignore_errors=True)
        super().run()
        add_mim_extension(Path(self.build_lib) / 'hkd_mm', editable=False)


def writable_options() -> dict:
    """Send build files elsewhere when the source tree is read-only."""
    if os.access(ROOT, os.W_OK):
        return {}
    folder = tempfile.mkdtemp(prefix='hkd_mm_build_')
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return {'egg_info': {'egg_base': folder}, 'build': {'build_base': folder}}


if __name__ == '__main__':
    setup(
        name='hkd_mm',
        version=read_version(),
        description='Knowledge distillation for skin-disease classification '
        'on OpenMMLab',
        long_description=(ROOT / 'README.md').read_text(encoding='utf-8'),
        long_description_content_type='text/markdown',
        author='hkd_mm contributors',
        license='Apache-2.0',
        license_files=['LICENSE', 'models/*/LICENSE'],
        keywords='knowledge distillation, dermatology, OpenMMLab',
        classifiers=[
            'Intended Audience :: Science/Research',
            'Programming Language :: Python :: 3',
            'Programming Language :: Python :: 3.10',
            'Programming Language :: Python :: 3.11',
            'Programming Language :: Python :: 3.12',
            'Topic :: Scientific/Engineering :: Artificial Intelligence',
        ],
        packages=find_packages(include=['hkd_mm', 'hkd_mm.*']),
        package_data={
            'hkd_mm.serve': ['demo_page.*'],
            'hkd_mm.report': ['page.*'],
        },
        python_requires='>=3.10',
        install_requires=parse_requirements('runtime')
        + parse_requirements('mminstall'),
        extras_require={
            'tests': parse_requirements('tests'),
            'optional': parse_requirements('optional'),
            'all': parse_requirements('tests') + parse_requirements('optional'),
        },
        cmdclass={'build_py': BuildWithMim},
        options=writable_options(),
        zip_safe=False,
    )
