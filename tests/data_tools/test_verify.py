# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""verify.py says ok to what a training takes, and to nothing else."""

import csv
import json
import os
import shutil
from pathlib import Path

import pytest

from hkd_mm.datasets import SkinDisease
from hkd_mm.datasets.skin_disease import EmptyPartError
from hkd_mm.errors import UserError


@pytest.fixture
def build(in_tmp, write_image):
    """Write images ``{name: seed}`` below ``d``, and a table of rows."""

    def write(images, table='', name='annotations.csv'):
        for seed, path in enumerate(images):
            write_image(in_tmp / 'd' / path, seed)
        if table:
            (in_tmp / 'd' / name).write_text(table)
        return 'd'

    return write


def verify(tool, *args):
    code = tool('data/verify')([*args, '--no-near', '--workers', '1', '--json', 'v'])
    return code, json.loads(Path('v').read_text()) if Path('v').exists() else None


def refused(root):
    """What a training says, in any of its parts."""
    for part in ('train', 'val', 'test'):
        try:
            SkinDisease(root, part)
        except EmptyPartError as error:
            if part != 'test':
                return str(error)
        except UserError as error:
            return str(error)
    return None


def folders(*parts, classes='AB', number=10):
    return [f'{p}/{c}/{i}.png' for p in parts for c in classes for i in range(number)]


def rows(*splits):
    lines = [f'{i},{"AB"[i // 10]},{splits[i % len(splits)]}' for i in range(20)]
    return '\n'.join(['image,label,split', *lines])


PLAIN = [f'images/{i}.png' for i in range(20)]
CASES = {
    'good': (folders('.'), ''),
    'good table': (PLAIN, rows('train', 'val')),
    'a class only': (folders('.', classes='A'), ''),
    'few': (folders('.', number=1), ''),
    'good without val': (PLAIN, rows('train', 'test')),
    'good training part': (PLAIN, rows('train')),
    'some without': (PLAIN, rows('train', 'val', '')),
    'unknown part': (PLAIN, rows('train', 'dev')),
    'a class in training': (
        PLAIN,
        rows('train', 'val').replace('B,train', 'B,val'),
    ),
    'good with an empty part': ([*folders('train'), 'val/A/x.txt', 'val/B/x.txt'], ''),
    'no val folder': (folders('train', 'test'), ''),
    'a folder too many': ([*folders('train', 'val'), 'more/1.png'], ''),
    'an empty class': ([*folders('.'), 'C/x.txt'], ''),
    'a class of val': ([*folders('train', 'val'), 'val/C/1.png'], ''),
    'a table that nothing reads': (PLAIN, None),
    'a leak': (PLAIN, rows('train', 'val').replace('split', 'split,lesion_id', 1)
               .replace('\n', ',L\n').replace('lesion_id,L', 'lesion_id') + ',L'),
}  # fmt: skip


@pytest.mark.parametrize('case', CASES)
def test_verify_and_training_refuse_the_same(build, tool, capsys, case):
    images, table = CASES[case]
    root = build([p for p in images if p.endswith('.png')], table)
    for path in images:
        if path.endswith('.txt'):
            Path(root, path).parent.mkdir(parents=True, exist_ok=True)
            Path(root, path).write_text('x')
    if table is None:
        Path(root, 'labels.csv').write_text(rows('train', 'val'))
    reason = refused(root)
    shutil.rmtree('work_dirs', ignore_errors=True)
    code, report = verify(tool, root)
    assert (reason is None) == case.startswith('good')
    assert (code == 0) == (reason is None)
    if reason:
        said = capsys.readouterr()
        assert reason in ' '.join((said.out + said.err).split('\n'))
    assert not Path('work_dirs').exists()  # no split file is left
    if report:
        assert report['ok'] == (reason is None)
        assert reason is None or reason in report['refused']


def test_what_is_not_read_is_counted_by_suffix(build, tool, capsys):
    root = build([*PLAIN, 'images/a.jpg', 'images/b.jpg'], rows('train', 'val'))
    for name in (
        '1.gif',
        'x/2.GIF',
        'images/3.dcm',
        'README',
        'old.csv',
        '.hidden.gif',
    ):
        Path(root, name).parent.mkdir(exist_ok=True)
        Path(root, name).write_bytes(b'x')
    code, report = verify(tool, root)
    want = {'.jpg': 2, '.gif': 2, '.dcm': 1, '.csv': 1, 'no suffix': 1}
    assert code == 0 and report['skipped'] == want
    said = capsys.readouterr().out
    assert '2 .jpg' in said and '2 .gif' in said and '--ann-file' in said


def test_linked_folders_are_data_and_read_once(build, tool):
    build(folders('.'))
    os.rename('d/B', 'elsewhere')
    os.symlink('../elsewhere', 'd/B')
    os.symlink('../d', 'd/A/loop')
    code, report = verify(tool, 'd')
    assert (code, report['images'], report['skipped']) == (0, 20, {})


def test_the_leak_check_says_what_it_grouped_by(build, tool, capsys):
    header = 'image,label,split,lesion_id,patient_id\n'
    parts = ['train', 'val']
    # lesion 0 is of patients 0 and 1, lesion 1 of 1: all are connected
    lines = [
        f'{i},{"AB"[i // 10]},{parts[i % 2]},L{i},P{i}'
        if i > 2
        else f'{i},A,{parts[i == 2]},L{i // 2},P{(i + 1) // 2}'
        for i in range(20)
    ]
    root = build(PLAIN, header + '\n'.join(lines))
    code, report = verify(tool, root)
    assert code == 1 and report['grouped_by'] == ['id', 'lesion and patient', 'content']
    [leak] = report['leaks']
    assert leak['kind'] == 'lesion and patient'
    assert leak['splits'] == {'train': ['0', '1'], 'val': ['2']}
    said = ' '.join(capsys.readouterr().out.split())
    assert 'leaks were looked for by id, lesion and patient, content' in said


def test_near_duplicates_are_leaks_where_they_are_grouped(build, tool, write_image):
    pytest.importorskip('imagehash')
    from PIL import Image

    root = build(PLAIN, rows('train', 'val'))
    image = Image.open('d/images/0.png').resize((120, 120))
    image.save('d/images/0.png')
    image.save('near.jpg', quality=95)
    Image.open('near.jpg').save('d/images/1.png')
    main = tool('data/verify')
    words = [root, '--near', '6', '--workers', '1', '--json', 'v']
    assert main(words) == 0
    report = json.loads(Path('v').read_text())
    assert ['0', '1'] in [sorted(p['images']) for p in report['near_leaks']]
    assert main([*words, '--group', 'g.csv']) == 1
    report = json.loads(Path('v').read_text())
    assert report['grouped_by'][-1] == 'near duplicate'
    assert report['leaks'][0]['kind'] == 'near duplicate'


def test_columns_are_named_as_for_a_training(build, tool):
    lines = [
        f'{i},{"AB"[i // 10]},{i // 2},{("fit", "train")[i % 2]}' for i in range(20)
    ]
    root = build(PLAIN, '\n'.join(['file,diagnosis,case,fold', *lines]))
    words = ['--image-col', 'file', '--label-col', 'diagnosis', '--group-cols', 'case']
    assert verify(tool, root)[0] == 2
    code, report = verify(tool, root, *words)
    assert code == 0 and report['grouped_by'] == ['id', 'case', 'content']
    code, report = verify(tool, root, *words, '--split-col', 'fold')
    assert code == 1 and '"fit"' in report['refused'][0]
    assert tool('data/split')([root, '--out', 's.json', *words]) == 0
    document = json.loads(Path('s.json').read_text())
    assert document['grouped_by'] == 'case'
    assert {int(i) // 2 for i in document['train']}.isdisjoint(
        int(i) // 2 for i in document['val']
    )
    assert tool('data/pack')([root, '--size', '8', *words]) == 0


@pytest.mark.parametrize(
    ('words', 'reason'),
    [
        (['--near', '65'], 'must lie between 0 and 64'),
        (['--near', '-1'], 'must lie between 0 and 64'),
        (['--workers', '100000'], '--workers 100000 must lie between'),
        (['--workers', '-1'], '--workers -1 must lie between'),
        (['--json', '.'], '--json . cannot be written'),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_line(build, tool, capsys, words, reason):
    pytest.importorskip('imagehash')
    assert tool('data/verify')([build(folders('.')), *words]) == 2
    error = capsys.readouterr().err
    assert reason in error and error.count('\n') == 1


@pytest.mark.parametrize('root', ['/proc', '/sys/kernel', '/dev', 'pipe', '/dev/null'])
def test_what_is_no_data_is_refused_at_once(in_tmp, tool, capsys, root):
    os.mkfifo('pipe')
    for name in ('verify', 'split'):
        assert tool(f'data/{name}')([root]) == 2
    assert tool('data/resize_images')([root, '--size', '8', '--out', 'o']) == 2
    assert capsys.readouterr().err.count('\n') == 3


@pytest.mark.parametrize('size', [0, 7, 10_001, 1_000_000, -5])
def test_sizes_that_no_image_has_are_refused(build, tool, capsys, size):
    words = [build(folders('.')), '--size', str(size)]
    assert tool('data/resize_images')([*words, '--out', 'o']) == 2
    assert tool('data/pack')(words) == 2
    assert capsys.readouterr().err.count('\n') == 2 and not Path('o').exists()


def test_odd_names_go_through_every_tool(in_tmp, tool, write_image, capsys):
    names = ['=1', "'=2", '@3', 'a b', 'e\u0301', 'x' * 245, os.fsdecode(b'caf\xe9')]
    for seed in range(20):
        extra = names[seed] if seed < len(names) else seed
        write_image(in_tmp / 'd' / 'AB'[seed % 2] / f'{extra}.png', seed)
    code, report = verify(tool, 'd')
    assert code == 0 and report['images'] == 20
    (in_tmp / 'd/A' / os.fsdecode(b'd\xe9.png')).write_bytes(b'')
    assert verify(tool, 'd')[0] == 1  # and prints the name
    (in_tmp / 'd/A' / os.fsdecode(b'd\xe9.png')).unlink()
    assert tool('data/split')(['d', '--out', 's.json']) == 0
    assert tool('data/verify')(['d', '--no-near', '--group', 'g.csv']) == 2
    assert 'that no table can hold' in capsys.readouterr().err
    (in_tmp / 'd/A' / f'{names[-1]}.png').unlink()
    assert tool('data/verify')(['d', '--no-near', '--group', 'g.csv']) == 0
    data = SkinDisease('d', 'all', ann_file=os.path.abspath('g.csv'))
    assert len(data) == 19
    with open('g.csv', newline='') as file:
        cells = [row['image'] for row in csv.DictReader(file)]
    assert not any(cell.startswith(('=', '@')) for cell in cells)
    assert tool('data/convert_class_folders')(['d', '--out', 'set']) == 0
    assert len(SkinDisease('set', 'all')) == 19
