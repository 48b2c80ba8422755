# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Make a small copy of a data root, for runs dominated by decoding."""

import json
import os
import shutil
from collections import Counter
from functools import partial
from pathlib import Path

from hkd_mm.data_tools.source import check_source
from hkd_mm.errors import UserError
from hkd_mm.io.atomic_files import AtomicBackend
from hkd_mm.io.files import read_record, walk
from hkd_mm.io.progress import check_workers, parallel_map

_LARGEST = 10_000  # pixels a side
_MARK = 'resized.json'
_TABLES = ('.csv', '.tab', '.tsv', '.json', '.md')


def resize_images(data_root: str, out: str, size: int, workers: int = 0) -> dict:
    """Write every image as a ``size`` x ``size`` PNG under ``out``.

    The pixels are those of ``LoadSkinImage`` and ``Resize(scale=(size, size),
    interpolation='area')``. Folders and names stay, tables are copied, ``originals`` is
    left out, existing images are kept. Returned are ``images``, ``written`` and
    ``failed`` (messages).
    """
    from hkd_mm.datasets.records import check_root, list_images

    if not 8 <= size <= _LARGEST:
        raise UserError(f'--size {size} must lie between 8 and {_LARGEST} pixels')
    check_workers(workers)
    root, target = check_root(data_root), Path(os.path.expanduser(out))
    check_source(data_root, out)
    images = list_images(root)
    if not images:
        raise UserError(f'data root {data_root} holds no image')
    mark = target / _MARK
    if mark.exists():
        found = read_record(mark).get('size')
        if found != size:
            raise UserError(
                f'--out {target} holds a copy of size {found}; '
                f'name another place for size {size}'
            )
    else:
        target.mkdir(parents=True, exist_ok=True)
        mark.write_text(json.dumps(dict(size=size)) + '\n')
    for folder, files in walk(root):
        for path in (Path(folder, file) for file in files):
            # the suffix of HAM10000_metadata is empty
            if path.suffix.lower() in _TABLES or path.name == 'HAM10000_metadata':
                copy = target / path.relative_to(root)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, copy)
    plain = Counter(path.with_suffix('') for path in images)
    jobs = []
    for path in images:
        # a.jpg beside a.png become a.jpg.png and a.png.png.
        stem = path.with_suffix('')
        name = (stem if plain[stem] == 1 else path).relative_to(root)
        jobs.append((str(path), str(target / name) + '.png'))
    todo = [job for job in jobs if not os.path.exists(job[1])]
    what = f'resizing to {size} x {size}'
    done = parallel_map(partial(_resize_one, size), todo, what, workers)
    failed = [message for message in done if message]
    return dict(images=len(images), written=len(todo) - len(failed), failed=failed)


def _resize_one(size: int, job: tuple[str, str]) -> str | None:
    """Resize one image; a message when its file cannot be read."""
    import cv2

    from hkd_mm.datasets.load_skin_image import read_image

    source, target = job
    try:
        image = read_image(source)
    except UserError as error:
        return str(error)
    image = cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA)
    AtomicBackend().put(cv2.imencode('.png', image)[1].tobytes(), target)
    return None
