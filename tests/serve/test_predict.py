# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""tools/predict.py: one table of any folder, whatever interrupts it."""

import csv
import errno
import json
import os
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from exported import CLASSES, SIZE, WEIGHTS, expected, export_tiny
from PIL import Image

from hkd_mm.errors import UserError

pytest.importorskip('onnxruntime')

ROOT = Path(__file__).resolve().parents[2]
H, W = SIZE


@pytest.fixture
def predict(tool):
    main = tool('predict')

    def call(*argv) -> int:
        return main([*map(str, argv), '--workers', '2', '--batch-size', '4'])

    return call


@pytest.fixture
def model(tmp_path) -> Path:
    return export_tiny(tmp_path / 'export')


@pytest.fixture
def photos(tmp_path) -> Path:
    """Eleven images in three folders, and what is none."""
    folder = tmp_path / 'photos'
    for place in ('', 'b', 'b/c'):
        (folder / place).mkdir(parents=True, exist_ok=True)
    for seed in range(11):
        place = ('', 'b', 'b/c')[seed % 3]
        _write(folder / place / f'image {seed:02},"x".png', seed)
    (folder / 'notes.txt').write_text('none')
    _write(folder / '.hidden.png', 0)
    return folder


def _pixels(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    base = rng.integers(0, 206, 3)
    return (base + rng.integers(0, 50, (3 * H, 2 * W, 3))).astype(np.uint8)


def _write(path: Path, seed: int) -> None:
    Image.fromarray(_pixels(seed)).save(path)


def _rows(path: Path) -> list[dict]:
    with open(path, newline='') as file:
        return list(csv.DictReader(file))


def _seed(name: str) -> int:
    return int(Path(name).name.split()[1][:2])


def _left(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.is_file()}


def test_every_image_is_in_the_table_once(predict, model, photos, tmp_path):
    out = tmp_path / 'made/out.csv'
    assert predict(photos, '--model', model, '--out', out) == 0
    rows = _rows(out)
    assert list(rows[0]) == [
        'image',
        'best',
        'probability',
        'confident',
        *(f'probability_{name}' for name in CLASSES),
    ]
    assert sorted(_seed(row['image']) for row in rows) == list(range(11))
    for row in rows:
        assert Path(row['image']).is_file()
        wanted = expected(_pixels(_seed(row['image'])))
        found = [float(row[f'probability_{name}']) for name in CLASSES]
        np.testing.assert_allclose(found, wanted, atol=2e-6)
        assert row['best'] == CLASSES[wanted.argmax()]
        assert float(row['probability']) == max(found)
        assert row['confident'] == ('yes' if wanted.max() >= 0.6 else 'no')
    assert {row['confident'] for row in rows} == {'yes', 'no'}
    assert _left(out.parent) == {'out.csv', 'out.csv.json'}


def test_without_a_model_the_one_of_hkd_mm_answers_and_says_so(
    predict, pretrained, photos, in_tmp, monkeypatch, capsys
):
    (in_tmp / 'ham10000').mkdir()  # of the same name, and not asked for
    assert predict(photos, '--out', 'a.csv') == 0
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == (
        'ham10000: two layers, 0.00 M parameters; classes bcc, mel, nv; '
        'licence none; not a medical device'
    )
    assert not any('ham10000' in line for line in lines[1:])
    assert predict(photos, '--model', pretrained, '--out', 'b.csv') == 0
    assert 'not a medical device' not in capsys.readouterr().err
    assert _rows(in_tmp / 'a.csv') == _rows(in_tmp / 'b.csv')
    (pretrained / 'manifest.json').unlink()
    assert predict(photos, '--out', 'c.csv') == 2
    told = capsys.readouterr().err
    assert told.startswith('error: the student "ham10000" is not in this copy of')
    assert told.endswith('give --model, a folder of tools/export.py\n')
    assert told.count('\n') == 1 and str(pretrained) in told


def test_places_may_overlap_and_links_may_turn_in_circles(
    predict, model, photos, tmp_path
):
    (photos / 'b' / 'again').symlink_to(photos)
    (photos / 'nowhere.png').symlink_to(tmp_path / 'lost.png')
    os.mkfifo(photos / 'pipe.png')
    out = tmp_path / 'out.csv'
    places = (photos, photos / 'b', next(photos.glob('*.png')), photos)
    assert predict(*places, '--model', model, '--out', out) == 0
    names = [row['image'] for row in _rows(out)]
    assert len(names) == 11 == len({os.path.realpath(n) for n in names})
    unreadable = _rows(tmp_path / 'out.csv.unreadable.csv')
    names = {Path(row['image']).name for row in unreadable}
    assert names == {'nowhere.png', 'pipe.png'}


def test_unreadable_files_are_listed_and_tried_again(
    predict, model, photos, tmp_path, capsys
):
    out, bad = tmp_path / 'out.csv', tmp_path / 'out.csv.unreadable.csv'
    (photos / 'a bad.jpg').write_bytes(b'no image')
    (photos / 'b' / 'cut.png').write_bytes(next(photos.glob('*.png')).read_bytes()[:80])
    assert predict(photos, '--model', model, '--out', out) == 0
    assert '2 could not be read' in capsys.readouterr().err
    assert len(_rows(out)) == 11
    found = {Path(row['image']).name: row['reason'] for row in _rows(bad)}
    assert set(found) == {'a bad.jpg', 'cut.png'}
    assert 'cannot identify' in found['a bad.jpg']
    before = out.read_text()
    _write(photos / 'b' / 'cut.png', 3)
    (photos / 'a bad.jpg').unlink()
    assert predict(photos, '--model', model, '--out', out) == 0
    assert not bad.exists()
    assert out.read_text().startswith(before) and len(_rows(out)) == 12


def test_no_photograph_is_skipped_in_silence(predict, model, tmp_path, capsys):
    photos, out = tmp_path / 'photos', tmp_path / 'out.csv'
    (photos / 'b').mkdir(parents=True)
    read = ['1.jfif', '2.JPE', 'b/3.jif', 'b/named wrongly.gif', '4.mpo']
    for seed, name in enumerate(read):
        Image.fromarray(_pixels(seed)).save(photos / name, 'JPEG')
    not_read = ['5.heic', 'b/6.DCM', '7.avif', '8.cr2']
    for name in not_read:
        (photos / name).write_bytes(b'of another format')
    Image.fromarray(_pixels(9)).save(photos / '9.gif')
    others = ['no_suffix', 'b/notes.txt', 'b/Thumbs.db', '.hidden.txt']
    for name in others:
        (photos / name).write_bytes(b'')
    assert predict(photos, '--model', model, '--out', out) == 0
    told = capsys.readouterr().err
    assert '5 could not be read' in told and 'skipped: 3 files' in told
    names = {str(Path(row['image']).relative_to(photos)) for row in _rows(out)}
    assert names == set(read)
    unreadable = _rows(tmp_path / 'out.csv.unreadable.csv')
    names = {str(Path(row['image']).relative_to(photos)) for row in unreadable}
    assert names == {*not_read, '9.gif'}
    assert all('none of JPEG, PNG' in row['reason'] for row in unreadable)
    facts = json.loads((tmp_path / 'out.csv.json').read_text())
    assert facts['skipped'] == 3 and facts['unreadable'] == 5
    # what is named is read, whatever its suffix
    (photos / '1.jfif').rename(photos / 'photo')
    alone = tmp_path / 'alone.csv'
    assert predict(photos / 'photo', '--model', model, '--out', alone) == 0
    assert len(_rows(alone)) == 1


def test_a_folder_of_other_files_says_how_many(predict, model, tmp_path, capsys):
    (tmp_path / 'photos').mkdir()
    (tmp_path / 'photos/notes.txt').touch()
    words = ['--model', model, '--out', tmp_path / 'out.csv']
    assert predict(tmp_path / 'photos', *words) == 2
    assert 'no image in what was named, but 1 files' in capsys.readouterr().err


def test_odd_exif_ends_no_folder(predict, model, photos, tmp_path):
    """A resolution that is a text, with which Pillow cannot turn it."""
    fields = struct.pack('<HHII', 0x112, 3, 1, 6)
    fields += struct.pack('<HHI4s', 0x11A, 2, 4, b'abc')
    exif = b'Exif\0\0II*\0' + struct.pack('<IH', 8, 2) + fields + bytes(4)
    Image.fromarray(_pixels(11)).save(photos / 'image 11.jpg', exif=exif)
    out = tmp_path / 'out.csv'
    assert predict(photos, '--model', model, '--out', out) == 0
    assert len(_rows(out)) == 12
    assert not (tmp_path / 'out.csv.unreadable.csv').exists()


def test_the_most_probable_classes(predict, model, photos, tmp_path):
    out = tmp_path / 'out.csv'
    assert predict(photos, '--model', model, '--out', out, '--top', 2) == 0
    for row in _rows(out):
        assert list(row)[4:] == ['best_2', 'probability_2']
        wanted = expected(_pixels(_seed(row['image'])))
        second = np.argsort(-wanted)[1]
        assert row['best_2'] == CLASSES[second]
        assert float(row['probability_2']) == pytest.approx(wanted[second], abs=2e-6)


def test_parquet_holds_the_same(predict, model, photos, tmp_path):
    parquet = pytest.importorskip('pyarrow.parquet')
    for name in ('out.csv', 'out.parquet'):
        assert predict(photos, '--model', model, '--out', tmp_path / name) == 0
    table = parquet.read_table(tmp_path / 'out.parquet')
    types = [str(field.type) for field in table.schema]
    assert types == ['string', 'string', 'float', 'bool', *['float'] * 3]
    for row, other in zip(table.to_pylist(), _rows(tmp_path / 'out.csv')):
        assert row['image'] == other['image'] and row['best'] == other['best']
        assert row['confident'] is (other['confident'] == 'yes')
        np.testing.assert_allclose(
            [row[key] for key in list(row)[4:]],
            [float(other[key]) for key in list(row)[4:]],
            atol=1e-6,
        )
    # and is added to
    _write(photos / 'image 20.png', 20)
    out = tmp_path / 'out.parquet'
    assert predict(photos, '--model', model, '--out', out) == 0
    again = parquet.read_table(out)
    assert again.slice(0, 11) == table and len(again) == 12


def test_another_model_or_option_is_refused(predict, model, photos, tmp_path, capsys):
    out = tmp_path / 'out.csv'
    other = export_tiny(tmp_path / 'other', 2 * WEIGHTS)
    assert predict(photos, '--model', model, '--out', out) == 0
    before = out.read_bytes()
    for argv, word in (
        (('--model', other), 'model'),
        (('--model', model, '--top', 2), 'columns'),
        (('--model', model, '--precision', 'int8'), 'precision'),
    ):
        assert predict(photos, *argv, '--out', out) == 2
        message = capsys.readouterr().err
        assert word in message and 'another --out' in message
    assert out.read_bytes() == before
    note = tmp_path / 'out.csv.json'
    new = note.read_text()
    note.write_text(new.replace('"confident"', '"sure"'))
    assert predict(photos, '--model', model, '--out', out) == 2
    assert 'now called "confident"' in capsys.readouterr().err
    note.write_text(new)
    (tmp_path / 'mine.csv').write_text('precious\n')
    argv = ('--model', model, '--out', tmp_path / 'mine.csv')
    assert predict(photos, *argv) == 2
    assert (tmp_path / 'mine.csv').read_text() == 'precious\n'


@pytest.mark.parametrize(
    'argv, word',
    [
        (('lost', '--model', 'MODEL'), 'lost does not exist'),
        (('EMPTY', '--model', 'MODEL'), 'no image'),
        (('EMPTY', '--model', 'MODEL', '--out', 'a.txt'), 'a.txt'),
        (('EMPTY', '--model', 'MODEL', '--top', '4'), '3 classes'),
        (('EMPTY', '--model', 'EMPTY'), 'manifest.json'),
        (('EMPTY', '--model', 'MODEL', '--workers', '-1'), '--workers'),
    ],
)
def test_mistakes_are_told_in_one_line(
    tool, model, tmp_path, monkeypatch, capsys, argv, word
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'empty').mkdir()
    places = dict(MODEL=str(model), EMPTY=str(tmp_path / 'empty'))
    argv = [places.get(item, item) for item in argv]
    assert tool('predict')(argv) == 2
    told = capsys.readouterr().err.splitlines()[-1]
    assert told.startswith('error: ') and word in told
    assert not list(tmp_path.glob('predictions*'))


def test_cut_off_anywhere_it_goes_on_to_the_same_table(
    predict, model, photos, tmp_path, monkeypatch
):
    (photos / 'b' / 'bad.png').write_bytes(b'no image')
    whole, out = tmp_path / 'whole.csv', tmp_path / 'out.csv'
    with monkeypatch.context() as patch:
        patch.setattr('os.unlink', lambda path: None)  # keep the work file
        assert predict(photos, '--model', model, '--out', whole) == 0
    work = (tmp_path / 'whole.csv.part').read_bytes()
    header = work.index(b'\n') + 1
    for length in [*range(header, len(work), 97), len(work) - 1, len(work)]:
        out.unlink(missing_ok=True)
        (tmp_path / 'out.csv.part').write_bytes(work[:length])
        assert predict(photos, '--model', model, '--out', out) == 0
        assert out.read_bytes() == whole.read_bytes()
        assert len(_rows(tmp_path / 'out.csv.unreadable.csv')) == 1
        assert not (tmp_path / 'out.csv.part').exists()


def test_a_full_disk_loses_nothing(
    predict, model, photos, tmp_path, monkeypatch, capsys
):
    from hkd_mm.inference.prediction_files import WorkFile

    out, upstream = tmp_path / 'out.csv', WorkFile.add

    def add(self, rows):
        if self.images >= 4:
            self._file.write(b'["half')
            raise OSError(errno.ENOSPC, 'No space left on device')
        upstream(self, rows)

    with monkeypatch.context() as patch:
        patch.setattr(WorkFile, 'add', add)
        assert predict(photos, '--model', model, '--out', out) == 2
        told = capsys.readouterr().err.splitlines()[-1]
        assert 'full' in told and str(out) in told and not out.exists()
    assert predict(photos, '--model', model, '--out', out) == 0
    assert 'going on: 4 images' in capsys.readouterr().err
    assert len({row['image'] for row in _rows(out)}) == 11 == len(_rows(out))


_HANGING = """
import runpy, sys, time
from hkd_mm.inference import classifier
upstream = classifier.SkinClassifier.prepare
left = int(sys.argv.pop(1))
def prepare(self, source):
    global left
    left -= 1
    if left < 0:
        time.sleep(600)
    return upstream(self, source)
classifier.SkinClassifier.prepare = prepare
sys.argv[0] = 'predict.py'
runpy.run_path('tools/predict.py', run_name='__main__')
"""


def _start(images: int, *argv) -> subprocess.Popen:
    """Start the tool, which hangs when it has read so many images."""
    return subprocess.Popen(
        [sys.executable, '-c', _HANGING, str(images), *map(str, argv)],
        cwd=ROOT,
        env=dict(os.environ, PYTHONPATH=str(ROOT)),
        stderr=subprocess.PIPE,
        text=True,
    )


def _wait_for_lines(path: Path, count: int) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        if path.is_file() and path.read_bytes().count(b'\n') > count:
            return
        time.sleep(0.01)
    pytest.fail(f'{path} did not grow')


def test_killed_for_real_twice(predict, model, photos, tmp_path):
    for seed in range(20, 60):
        _write(photos / f'image {seed}.png', seed)
    out, work = tmp_path / 'out.csv', tmp_path / 'out.csv.part'
    options = ('--model', model, '--out', out, '--batch-size', 2)
    for lines in (6, 14):
        process = _start(8, photos, *options, '--workers', 1)
        _wait_for_lines(work, lines)
        if lines == 6:  # nobody else writes it meanwhile
            second = _start(99, photos, *options)
            told = second.communicate(timeout=60)[1]
            assert second.returncode == 2 and 'another process' in told
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert not out.exists()
    assert predict(photos, '--model', model, '--out', out) == 0
    names = [row['image'] for row in _rows(out)]
    assert len(names) == 51 == len(set(names))
    whole = tmp_path / 'whole.csv'
    assert predict(photos, '--model', model, '--out', whole) == 0
    assert out.read_bytes() == whole.read_bytes()


@pytest.mark.parametrize('when', ['open_work', 'write_table'])
def test_nobody_else_writes_from_the_first_look_to_the_end(
    predict, model, photos, tmp_path, monkeypatch, capsys, when
):
    """The lock outlives other descriptors of the work file."""
    from hkd_mm.inference import prediction_files
    from hkd_mm.serve import predictor

    (photos / 'bad.png').write_bytes(b'no image')  # rows() is read twice
    module = prediction_files if when == 'write_table' else predictor
    upstream, out = getattr(module, when), tmp_path / 'out.csv'
    asked = []

    def meanwhile(*args):
        if asked:
            return upstream(*args)
        asked.append(_left(tmp_path))
        made = None if when == 'open_work' else upstream(*args)
        second = _start(99, photos, '--model', model, '--out', out)
        told = second.communicate(timeout=60)[1]
        assert second.returncode == 2 and 'another process' in told
        return upstream(*args) if when == 'open_work' else made

    monkeypatch.setattr(module, when, meanwhile)
    assert predict(photos, '--model', model, '--out', out) == 0
    begun = {'out.csv.lock'}
    begun |= set() if when == 'open_work' else {'out.csv.part'}
    assert asked == [begun]
    assert len(_rows(out)) == 11
    assert 'out.csv.lock' not in _left(tmp_path)


def test_a_lock_that_its_holder_has_just_removed_is_not_taken(tmp_path, monkeypatch):
    from hkd_mm.io import locks

    out, path = tmp_path / 'out.csv', tmp_path / 'out.csv.lock'
    upstream, taken = locks.fcntl.flock, []

    def removed(file, how):
        if not taken:
            path.unlink()
        taken.append(file)
        upstream(file, how)

    monkeypatch.setattr(locks.fcntl, 'flock', removed)
    with locks.only_writer(out):
        assert len(taken) == 2 and path.is_file()
        with pytest.raises(UserError, match='another process'):
            with locks.only_writer(out):
                pass
        assert path.is_file()
    assert not path.exists()
    with locks.only_writer(out):
        pass


def test_names_that_are_no_unicode_or_hold_line_breaks(predict, model, tmp_path):
    folder, out = os.fsencode(tmp_path / 'odd'), tmp_path / 'out.csv'
    os.mkdir(folder)
    _write(tmp_path / 'a.png', 1)
    names = [b'line\nbreak.png', b'\xff.png', 'ä.png'.encode()]
    for name in names:
        os.link(tmp_path / 'a.png', os.path.join(folder, name))
    for _ in range(2):
        argv = ('--model', model, '--out', out)
        assert predict(tmp_path / 'odd', *argv) == 0
        with open(out, newline='', errors='surrogateescape') as file:
            found = [row['image'] for row in csv.DictReader(file)]
        assert sorted(map(os.fsencode, map(os.path.basename, found))) == (sorted(names))


def test_work_of_another_model_is_not_gone_on_with(
    predict, model, photos, tmp_path, capsys
):
    out, work = tmp_path / 'out.csv', tmp_path / 'out.csv.part'
    for content in (b'{"format":"other"}\n["a.png"]\n', b'\0' * 99, b''):
        work.write_bytes(content)
        assert predict(photos, '--model', model, '--out', out) == 2
        assert str(work) in capsys.readouterr().err
        assert work.read_bytes() == content and not out.exists()


def test_a_table_that_was_cut_or_edited_is_not_taken_for_whole(
    predict, model, photos, tmp_path, capsys
):
    for name in ('out.csv', 'out.parquet'):
        if name.endswith('parquet'):
            pytest.importorskip('pyarrow')
        out = tmp_path / name
        argv = (photos, '--model', model, '--out', out)
        assert predict(*argv) == 0
        whole = out.read_bytes()
        lines = whole[: whole[: len(whole) // 2].rfind(b'\n') + 1]
        for content in (whole[: len(whole) // 2], lines, b'', whole + b'\n'):
            out.write_bytes(content)
            assert predict(*argv) == 2
            told = capsys.readouterr().err.splitlines()[-1]
            assert told.startswith(f'error: {out} is not as it was written')
            assert out.read_bytes() == content
        out.unlink()
        assert predict(*argv) == 0 and out.read_bytes() == whole


@pytest.mark.parametrize(
    'line',
    [
        '[' * 200_000,
        '[["a.png"]]',
        '{"image": ["a.png"], "reason": "x"}',
        '{"x": 1}',
        '{"image": "a.png"}',
        '[5, "mel", 0.5, true, 0.5, 0.3, 0.2]',
        '["a.png", "mel"]',
        '["a.png", "mel", "0.5", true, 0.5, 0.3, 0.2]',
        '["\\ud800.png", "mel", 0.5, true, 0.5, 0.3, 0.2]',
        '[]',
        '3',
    ],
    ids=str,
)
def test_lines_of_a_work_file_that_nobody_wrote_are_made_again(
    predict, model, photos, tmp_path, monkeypatch, line
):
    out, work = tmp_path / 'out.csv', tmp_path / 'out.csv.part'
    with monkeypatch.context() as patch:
        patch.setattr('os.unlink', lambda path: None)  # keep the work file
        assert predict(photos, '--model', model, '--out', out) == 0
    whole, before = out.read_bytes(), work.read_bytes().splitlines(keepends=True)
    before[4:5] = [line.encode() + b'\n']
    out.unlink()
    work.write_bytes(b''.join(before))
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(10_000_000)  # as other packages do
    try:
        assert predict(photos, '--model', model, '--out', out) == 0
    finally:
        sys.setrecursionlimit(limit)
    assert out.read_bytes() == whole


def test_no_name_is_a_formula_and_all_are_known_again(
    tool, model, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    names = ['=1+1.png', '+x.png', '-x.png', '@x.png', '\tx.png', "'=x.png", '[x[.png']
    names += ['x' * 246 + '.png', 'a\u0308.png', 'ä.png']  # decomposed, composed
    for name in names:
        _write(tmp_path / name, 1)
    suffixes = ['csv', 'parquet'] if _has_pyarrow() else ['csv']
    for suffix in suffixes:
        argv = ['--model', str(model), '--out', f'out.{suffix}', '--', *names]
        for done in (0, 10):
            assert tool('predict')(argv) == 0
            assert (f'{done} images are in' in capsys.readouterr().err) is bool(done)
    cells = [row['image'] for row in _rows(tmp_path / 'out.csv')]
    assert len(cells) == 10
    assert not any(cell[0] in '=+-@\t\r' for cell in cells)
    assert {"'=1+1.png", "''=x.png", '[x[.png'} < set(cells)


def _has_pyarrow() -> bool:
    from importlib.util import find_spec

    return find_spec('pyarrow') is not None


def test_parquet_knows_names_that_are_no_unicode_again(predict, model, tmp_path):
    parquet = pytest.importorskip('pyarrow.parquet')
    folder, out = tmp_path / 'odd', tmp_path / 'out.parquet'
    folder.mkdir()
    _write(tmp_path / 'a.png', 1)
    os.link(tmp_path / 'a.png', os.path.join(os.fsencode(folder), b'\xff.png'))
    for _ in range(2):
        assert predict(folder, '--model', model, '--out', out) == 0
        names = parquet.read_table(out).column('image').to_pylist()
        assert names == [str(folder / '\\xff.png')]


@pytest.mark.parametrize(
    ('argv', 'word'),
    [
        (['--max-pixels', '-5'], 'max_pixels=-5: at least 1'),
        (['--max-pixels', '0'], 'max_pixels=0: at least 1'),
        (['--batch-size', '0'], 'batch_size=0: at least 1'),
        (['--batch-size', '1000000000'], 'batch_size=1000000000: at least 1, at most'),
        (['--workers', '100000'], '--workers 100000'),
        (['--top', '0'], '--top 0'),
        (['--out', 'x' * 240 + '.csv'], 'at most 200 bytes'),
        (['--out', 'a.png/out.csv'], '--out a.png/out.csv cannot be written'),
        (['--out', 'folder.csv'], 'folder.csv'),
    ],
)
def test_odd_options_are_one_line(
    tool, model, tmp_path, monkeypatch, capsys, argv, word
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'folder.csv').mkdir()
    _write(tmp_path / 'a.png', 1)
    assert tool('predict')(['a.png', '--model', str(model), *argv]) == 2
    told = capsys.readouterr().err.splitlines()[-1]
    assert told.startswith('error: ') and word in told


def test_folders_behind_many_links_are_read_once(predict, model, tmp_path):
    """Each of 21 folders links twice to the next one: two million ways."""
    folders = [tmp_path / 'photos' / f'{i:02}' for i in range(22)]
    for i, folder in enumerate(folders):
        folder.mkdir(parents=True)
        _write(folder / 'a.png', i)
        if i:
            (folders[i - 1] / 'one').symlink_to(folder)
            (folders[i - 1] / 'two').symlink_to(folder)
    (folders[-1] / 'back').symlink_to(tmp_path / 'photos')
    out = tmp_path / 'out.csv'
    assert predict(tmp_path / 'photos', '--model', model, '--out', out) == 0
    assert len(_rows(out)) == 22


def test_the_rest_is_read_where_a_folder_cannot_be_listed(
    predict, model, photos, tmp_path, monkeypatch
):
    upstream = os.scandir

    def closed(path):
        if str(path).endswith('/b'):
            raise PermissionError(errno.EACCES, 'Permission denied', path)
        return upstream(path)

    monkeypatch.setattr('os.scandir', closed)
    (photos / 'c').mkdir()
    _write(photos / 'c' / 'image 30.png', 30)
    out = tmp_path / 'out.csv'
    assert predict(photos, '--model', model, '--out', out) == 0
    assert {_seed(row['image']) for row in _rows(out)} == {0, 3, 6, 9, 30}
    [row] = _rows(tmp_path / 'out.csv.unreadable.csv')
    assert row['image'] == str(photos / 'b') and 'Permission denied' in row['reason']
