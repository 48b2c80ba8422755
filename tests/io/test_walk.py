# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Folders with links are read to their end, each once."""

import os

import pytest

from hkd_mm.io.files import printable, read_json, replacing, walk


def paths(root, **kwargs):
    return [
        os.path.relpath(os.path.join(folder, name), root)
        for folder, names in walk(root, **kwargs)
        for name in names
    ]


def test_links_are_followed_and_loops_end(tmp_path):
    root, elsewhere = tmp_path / 'root', tmp_path / 'elsewhere'
    (root / 'A').mkdir(parents=True)
    elsewhere.mkdir()
    for path in (root / 'A/1.jpg', elsewhere / '2.jpg'):
        path.write_bytes(b'x')
    (root / 'A/again').symlink_to('.')
    (root / 'B').symlink_to(elsewhere)
    (root / 'up').symlink_to('..')
    repeats = []
    found = paths(root, on_repeat=repeats.append)
    assert found == ['A/1.jpg', 'B/2.jpg']
    assert str(root / 'A/again') in repeats


def test_a_chain_of_double_links_ends(tmp_path):
    last = tmp_path / 'd20'
    last.mkdir()
    (last / 'x.png').write_bytes(b'x')
    for number in range(19, -1, -1):
        folder = tmp_path / f'd{number}'
        folder.mkdir()
        for side in 'ab':
            (folder / side).symlink_to(tmp_path / f'd{number + 1}')
    assert len(paths(tmp_path / 'd0')) == 1  # of 2 ** 20 ways


def test_what_is_no_image_folder_or_file_is_left_out(tmp_path):
    for name in ('.git', '@eaDir', 'originals', 'A'):
        (tmp_path / name).mkdir()
        (tmp_path / name / 'x.jpg').write_bytes(b'x')
    os.mkfifo(tmp_path / 'A/pipe.jpg')
    (tmp_path / 'A/dead.jpg').symlink_to('nowhere')
    assert paths(tmp_path) == ['A/x.jpg']


def test_names_of_any_bytes_become_text():
    assert printable('é.png') == 'é.png'
    assert printable(os.fsdecode(b'a\xff\xc3\xa9')) == r'a\xffé'


def test_long_names_are_written(tmp_path):
    path = tmp_path / ('x' * 250 + '.json')
    with replacing(path) as file:
        file.write(b'1')
    assert os.listdir(tmp_path) == [path.name] and path.read_bytes() == b'1'


def test_an_empty_file_is_no_json(tmp_path):
    (tmp_path / 'a.json').touch()
    with pytest.raises(ValueError, match='the file is empty'):
        read_json(tmp_path / 'a.json')
    os.mkfifo(tmp_path / 'pipe.json')
    with pytest.raises(OSError, match='a FIFO, device or socket'):
        read_json(tmp_path / 'pipe.json')
