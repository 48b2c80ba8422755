# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Building survives kills, full disks, changed sources and company."""

import errno
import multiprocessing
import os
import signal
import time

import numpy as np
import pytest

from hkd_mm.datasets.packed import builder
from hkd_mm.datasets.packed import plan as planning
from hkd_mm.datasets.packed.plan import make_plan
from hkd_mm.datasets.packed.store import PackedStore
from hkd_mm.datasets.records import Record
from hkd_mm.errors import UserError
from hkd_mm.io import progress as parallel

FORK = multiprocessing.get_context('fork')  # no imports anew


def plan_of(packed_root):
    records = [Record(p.stem, str(p), '') for p in packed_root.rglob('*.png')]
    return make_plan(str(packed_root), records, 16)


def start(packed_root, store_dir, slow):
    """Build in a process of its own, with a pause before each image."""

    def run():
        read = planning.read_image
        planning.read_image = lambda *args: time.sleep(slow) or read(*args)
        parallel.default_workers = lambda: 2
        builder.ensure_store(plan_of(packed_root), store_dir)

    process = FORK.Process(target=run)
    process.start()
    return process


def count_decoded(monkeypatch):
    seen, real = [], planning.read_image
    monkeypatch.setattr(
        planning, 'read_image', lambda path: seen.append(path) or real(path)
    )
    return seen


def test_a_killed_build_goes_on_where_it_was(packed_root, tmp_path, monkeypatch):
    store_dir = tmp_path / 'stores'
    running = start(packed_root, store_dir, slow=0.1)
    marks = store_dir / 'none'
    deadline = time.monotonic() + 60
    while not (marks.exists() and 5 <= sum(marks.read_bytes()) < 30):
        marks = next(iter(store_dir.glob('*/done.bin')), marks)
        assert time.monotonic() < deadline
        assert running.is_alive()
        time.sleep(0.01)
    os.kill(running.pid, signal.SIGKILL)
    running.join()
    done = sum(marks.read_bytes())
    assert not (marks.parent / 'header.json').exists()
    # a mark that a power failure left without its pixels does not count
    first = marks.read_bytes().index(1)
    with open(marks.parent / 'pixels.bin', 'r+b') as pixels:
        pixels.seek(first * 16 * 16 * 3)
        pixels.write(bytes(40))
    seen = count_decoded(monkeypatch)
    folder = builder.ensure_store(plan_of(packed_root), store_dir, workers=1)
    assert folder == marks.parent and len(seen) == 36 - done + 1
    whole = builder.ensure_store(plan_of(packed_root), tmp_path / 'again', workers=1)
    for name in ('pixels.bin', 'crc32.bin', 'header.json', 'rows.json'):
        assert (folder / name).read_bytes() == (whole / name).read_bytes()
    assert not (folder / 'done.bin').exists()


def test_two_builders_at_once_make_one_store(packed_root, tmp_path, capfd):
    running = [start(packed_root, tmp_path / 'stores', slow=0.03) for _ in range(2)]
    for process in running:
        process.join(60)
    assert [process.exitcode for process in running] == [0, 0]
    said = capfd.readouterr()
    assert (said.out + said.err).count('waiting') == 1
    assert (said.out + said.err).count('is ready after') == 1
    (folder,) = (tmp_path / 'stores').iterdir()
    assert len(PackedStore(folder, plan=plan_of(packed_root))) == 36


def test_changed_sources_make_a_new_store(packed_root, packed, write_image, capfd):
    old = packed('train').store
    changed = next(packed_root.rglob('*.png'))
    write_image(changed, seed=5)
    write_image(packed_root / 'Acne' / 'new.png', seed=6)
    capfd.readouterr()
    new = packed('all')
    assert len(new) == 37 and new.store.folder != old.folder
    said = capfd.readouterr().err
    assert 'HAVE CHANGED' in said and str(old.folder) in said
    fresh = packed('all', store_dir='fresh').store
    assert fresh.hash == new.store.hash
    np.testing.assert_array_equal(fresh.pixels, new.store.pixels)


def test_an_unreadable_image_is_named(packed_root, packed, write_image):
    bad = [
        packed_root / 'Acne' / 'acne_03.png',
        packed_root / 'Eczema' / 'eczema_01.png',
    ]
    for path in bad:
        path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(UserError, match=r'acne_03.png .*2 such files in all'):
        packed()
    for path in bad:
        write_image(path, seed=9)
    assert len(packed()) == 36


def test_a_full_disk_is_told_in_one_line(packed_root, packed, monkeypatch):
    real, count = os.pwrite, [0]

    def write(handle, content, offset):
        count[0] += 1
        if count[0] > 40:
            raise OSError(errno.ENOSPC, 'No space left on device')
        return real(handle, content, offset)

    monkeypatch.setattr(os, 'pwrite', write)
    with pytest.raises(UserError, match='disk of .* full.*packed.store_dir'):
        packed()
    monkeypatch.undo()
    monkeypatch.chdir(packed_root.parent)
    seen = count_decoded(monkeypatch)
    packed()
    assert len(seen) == 36 - 13


def test_too_little_room_is_told_before_the_work(packed, monkeypatch):
    seen = count_decoded(monkeypatch)
    monkeypatch.setattr(
        builder.shutil, 'disk_usage', lambda path: type('', (), dict(free=1))
    )
    with pytest.raises(UserError, match='full'):
        packed()
    assert seen == []


def test_a_place_that_is_a_file_is_named(packed, tmp_path):
    (tmp_path / 'taken').write_text('')
    with pytest.raises(UserError, match='taken is a file'):
        packed(store_dir='taken')


def test_a_finished_store_is_read_where_nothing_can_be_written(
    packed_root, tmp_path, monkeypatch
):
    plan = plan_of(packed_root)
    folder = builder.ensure_store(plan, tmp_path / 'stores')
    monkeypatch.setattr(builder, 'locked', None)
    assert builder.ensure_store(plan, tmp_path / 'stores') == folder


def test_a_foreign_folder_in_the_way_is_built_over(packed_root, tmp_path):
    plan = plan_of(packed_root)
    folder = tmp_path / f'{plan.family}_{plan.key[:8]}'
    folder.mkdir()
    (folder / 'rows.json').write_text('cut off')
    (folder / 'done.bin').write_bytes(bytes([1] * 50))
    assert builder.ensure_store(plan, tmp_path) == folder
    assert len(PackedStore(folder, plan=plan)) == 36
