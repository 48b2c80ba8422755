# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""The data tools, from their command lines."""

import csv
import io
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

TOOLS = Path(__file__).parents[2] / 'tools' / 'data'
NAMES = sorted(path.stem for path in TOOLS.glob('[!_]*.py'))


@pytest.fixture(autouse=True)
def _work_in_tmp(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope='module')
def demo(tmp_path_factory):
    from _demo_images import make_demo_images

    root = tmp_path_factory.mktemp('demo') / 'demo'
    make_demo_images(str(root), num=120, size=32, workers=1)
    return root


@pytest.fixture
def copy(demo, tmp_path):
    return shutil.copytree(demo, tmp_path / 'copy')


def _rows(root, name='annotations.csv'):
    with open(root / name, newline='') as stream:
        return list(csv.DictReader(stream))


def _photo(path, seed=0, size=(20, 14)):
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def _folders(root, parts, classes=('A', 'B'), number=10):
    seed = 0
    for part in parts:
        for name in classes:
            for i in range(number):
                seed += 1
                _photo(root / part / name / f'pat{i // 2}_{i}.png', seed)
    return root


@pytest.mark.parametrize('name', NAMES)
def test_help_is_quick(name):
    before = os.times()  # of the processor: a busy machine is not a slow tool
    done = subprocess.run(
        [sys.executable, TOOLS / f'{name}.py', '--help'],
        capture_output=True, text=True, timeout=60,
        env=dict(os.environ, PYTHONPATH=str(TOOLS.parents[1])),
    )  # fmt: skip
    assert done.returncode == 0 and 'usage' in done.stdout
    after = os.times()
    assert (
        after.children_user
        + after.children_system
        - before.children_user
        - before.children_system
    ) < 2


@pytest.mark.parametrize('name', ['split', 'verify'])
def test_mistakes_are_one_line_and_exit_code_2(tool, capsys, name):
    assert tool(f'data/{name}')(['nowhere']) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith('error: data root nowhere does not exist')
    assert '\n' not in error


# demo images


def test_demo_images_are_what_was_asked_for(demo):
    rows = _rows(demo)
    assert len(rows) == 120 == len(list((demo / 'images').iterdir()))
    counts = {}
    for row in rows:
        counts[row['label']] = counts.get(row['label'], 0) + 1
    assert counts == dict(Acne=26, Benign=43, Infectious=17, Malignant=12, Pigment=22)
    lesions = {row['lesion_id'] for row in rows}
    assert 60 < len(lesions) < 100
    image = Image.open(demo / 'images' / f'{rows[0]["image"]}.jpg')
    assert image.size == (32, 32) and image.mode == 'RGB'


def test_demo_images_depend_on_the_seed_alone(tool, demo, capsys):
    make = tool('data/make_demo_images')
    common = ['--num', '120', '--size', '32', '--workers', '2']
    assert make([*common, '--out', 'again']) == 0
    assert make([*common, '--out', 'other', '--seed', '1']) == 0

    def content(root):
        return [
            p.read_bytes()
            for p in sorted(Path(root).rglob('*.*'))
            if p.suffix in ('.jpg', '.csv')
        ]

    assert content('again') == content(demo)
    assert not set(content('other')[1:]) & set(content(demo))
    before = os.stat('again/images/DEMO_00001.jpg').st_mtime_ns
    assert make([*common, '--out', 'again']) == 0
    assert 'found 120' in capsys.readouterr().out
    assert os.stat('again/images/DEMO_00001.jpg').st_mtime_ns == before
    assert make(['--num', '60', '--out', 'again']) == 2
    assert 'holds other demo images' in capsys.readouterr().err
    assert make(['--num', '5', '--out', 'few']) == 2


def test_demo_classes_are_learnable_but_no_threshold_separates_them(tmp_path):
    from _demo_images import make_demo_images
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.metrics import balanced_accuracy_score

    make_demo_images('d', num=400, size=32)
    rows = _rows(Path('d'))
    features = []
    for row in rows:
        image = cv2.imread(f'd/images/{row["image"]}.jpg')
        lab = cv2.cvtColor(image, cv2.COLOR_BGR2LAB).astype(float)
        centre = lab[10:22, 10:22].reshape(-1, 3)
        edge = np.concatenate([lab[:3], lab[-3:]]).reshape(-1, 3)
        features.append(np.concatenate([
            centre.mean(0) - edge.mean(0), centre.std(0),
            lab.reshape(-1, 3).std(0), edge.mean(0)]))  # fmt: skip
    labels = np.array([row['label'] for row in rows])
    lesions = np.array([int(row['lesion_id'][-5:]) for row in rows])
    train = lesions % 3 > 0
    features = np.array(features)
    forest = RandomForestClassifier(100, random_state=0, n_jobs=1)
    forest.fit(features[train], labels[train])
    score = balanced_accuracy_score(labels[~train], forest.predict(features[~train]))
    assert 0.4 < score < 0.9  # chance is 0.2


# split


def test_split_writes_what_a_training_draws(tool, demo, capsys):
    from hkd_mm.datasets.skin_disease import SkinDisease

    assert tool('data/split')([str(demo)]) == 0
    (path,) = Path('work_dirs/splits').glob('demo-*-80-10-10-seed42.json')
    document = json.loads(path.read_text())
    assert document['hash'] in capsys.readouterr().out
    classes = ['Acne', 'Benign', 'Infectious', 'Malignant', 'Pigment']
    data = SkinDisease(str(demo), 'test', classes=classes)
    assert data.split_hash == document['hash']
    assert [d['sample_id'] for d in data] == document['test']
    before = path.stat().st_mtime_ns
    assert tool('data/split')([str(demo)]) == 0
    assert path.stat().st_mtime_ns == before


def test_split_takes_ratios_seed_and_place(tool, demo, capsys):
    split = tool('data/split')
    args = [str(demo), '--ratios', '70:20:10', '--out', 's.json']
    assert split([*args, '--seed', '1']) == 0
    document = json.loads(Path('s.json').read_text())
    sizes = [len(document[part]) for part in ('train', 'val', 'test')]
    np.testing.assert_allclose(sizes, [84, 24, 12], atol=6)
    assert split([*args, '--seed', '2']) == 2
    assert 'holds another split' in capsys.readouterr().err
    assert split([str(demo), '--ratios', '70']) == 2


def test_split_keeps_equal_files_together(tool, copy):
    rows = _rows(copy)
    names = [row['image'] for row in rows]
    lesion = {row['image']: row['lesion_id'] for row in rows}
    pairs = [
        (names[0], names[5]),
        (names[5], names[9]),
        (names[30], names[50]),
    ]
    for first, second in pairs:
        shutil.copy(copy / f'images/{first}.jpg', copy / f'images/{second}.jpg')
        assert lesion[first] != lesion[second]
    for seed in range(3):
        out = f'{seed}.json'
        assert tool('data/split')([
            str(copy), '--group-duplicates', '--out', out,
            '--seed', str(seed), '--ratios', '50:25:25']) == 0  # fmt: skip
        document = json.loads(Path(out).read_text())
        home = {i: part for part in ('train', 'val', 'test') for i in document[part]}
        assert all(home[first] == home[second] for first, second in pairs)
        homes = {(lesion[i], part) for i, part in home.items()}
        assert len(homes) == len(set(lesion.values()))
        assert document['grouped_by'] == 'lesion_id and content'


# verify


def _verify(tool, *args):
    code = tool('data/verify')([*map(str, args), '--json', 'v.json'])
    return code, json.loads(Path('v.json').read_text())


def test_verify_of_good_data(tool, demo, capsys):
    code, report = _verify(tool, demo, '--min-size', 33)
    assert code == 0 and report['ok']
    assert report['images'] == 120 == len(report['tiny'])
    assert not report['unreadable'] and not report['leaks']
    assert sum(map(sum, (c.values() for c in report['counts'].values()))) == 120
    assert 'Malignant' in capsys.readouterr().out


def test_verify_names_each_unreadable_file(tool, copy):
    images = sorted((copy / 'images').iterdir())
    images[0].write_bytes(b'')
    images[1].write_bytes(images[1].read_bytes()[:400])
    images[2].write_text('<html>')
    code, report = _verify(tool, copy, '--no-near')
    assert code == 1 and not report['ok']
    reasons = {e['image']: e['reason'] for e in report['unreadable']}
    assert set(reasons) == {path.stem for path in images[:3]}
    assert reasons[images[0].stem] == 'the file is empty'
    assert 'truncated' in reasons[images[1].stem].lower()
    assert 'cannot identify' in reasons[images[2].stem]


def test_verify_finds_leaks_by_lesion_and_content(tool, copy):
    rows = _rows(copy)
    for i, row in enumerate(rows):
        row['split'] = ('train', 'val', 'test')[int(row['lesion_id'][-5:]) % 3]
        row['lesion_id'] = row['lesion_id'] if i else 'LEAK'
    other = next(row for row in rows if row['split'] != rows[0]['split'])
    other['lesion_id'] = 'LEAK'
    alike = next(
        row
        for row in rows[20:]
        if row['split'] != 'train' and row['label'] != rows[0]['label']
    )
    origin = next(row for row in rows[1:] if row['split'] == 'train')
    shutil.copy(
        copy / f'images/{origin["image"]}.jpg',
        copy / f'images/{alike["image"]}.jpg',
    )
    with open(copy / 'annotations.csv', 'w', newline='') as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    code, report = _verify(tool, copy, '--no-near')
    assert code == 1
    kinds = {leak['kind']: leak for leak in report['leaks']}
    assert set(kinds) == {'lesion', 'content'}
    assert kinds['lesion']['key'] == 'LEAK'
    assert kinds['content']['splits'] == {
        'train': [origin['image']],
        alike['split']: [alike['image']],
    }
    assert report['duplicates'] == [sorted([origin['image'], alike['image']])]
    assert report['conflicting'] == [
        {origin['image']: origin['label'], alike['image']: alike['label']}
    ]


def test_verify_finds_an_id_in_two_splits_of_a_file(tool, demo):
    assert tool('data/split')([str(demo), '--out', 's.json']) == 0
    document = json.loads(Path('s.json').read_text())
    document['val'].append(document['train'][0])
    Path('s.json').write_text(json.dumps(document))
    code, report = _verify(tool, demo, '--no-near', '--split-file', 's.json')
    assert code == 1
    assert [leak['key'] for leak in report['leaks'] if leak['kind'] == 'id'] == [
        document['train'][0]
    ]
    document['data_hash'] = '0' * 64
    Path('s.json').write_text(json.dumps(document))
    assert tool('data/verify')([
        str(demo), '--split-file', 's.json']) == 2  # fmt: skip


def _wave(path, phase, quality, size=96):
    """A smooth image, saved again and again with other settings."""
    rng = np.random.default_rng(phase)
    grid = rng.uniform(0, 255, (6, 6, 3)).astype(np.float32)
    image = cv2.resize(grid, (size, size), interpolation=cv2.INTER_CUBIC)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.uint8(image.clip(0, 255))).save(path, quality=quality)


def test_verify_finds_near_duplicates(tool, tmp_path):
    pytest.importorskip('imagehash')
    for i in range(24):
        _wave(tmp_path / 'd' / 'AB'[i % 2] / f'{i}.jpg', i, 95)
    _wave(tmp_path / 'd' / 'A' / 'again.jpg', 4, 60, size=80)
    code, report = _verify(tool, 'd')
    assert code == 0  # alike is not the same
    assert [sorted(pair['images']) for pair in report['near_duplicates']] == [
        ['A/4', 'A/again']
    ]


def test_verify_without_imagehash_says_so(tool, demo, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, 'imagehash', None)
    code, report = _verify(tool, demo)
    assert code == 0 and not report['near_checked']
    assert 'pip install ImageHash' in capsys.readouterr().err
    assert tool('data/verify')([str(demo), '--near', '2']) == 2


# resize


def test_resize_gives_the_pixels_of_the_pipeline(tool, tmp_path, capsys):
    from mmpretrain.registry import TRANSFORMS

    from hkd_mm.datasets.load_skin_image import read_image

    root = tmp_path / 'd'
    for i in range(6):
        image = Image.open(_photo(root / 'images' / f'{i}.png', i, (40, 30)))
        exif = Image.Exif()
        exif[0x0112] = 6 if i % 2 else 1
        image.save(root / 'images' / f'{i}.jpg', exif=exif)
        (root / 'images' / f'{i}.png').unlink()
    _photo(root / 'originals' / '0.png')
    (root / 'annotations.csv').write_text('image,label\n0,A\n1,B\n')
    args = [str(root), '--size', '16', '--out', 'small']
    resize = tool('data/resize_images')
    assert resize(args) == 0
    assert '6 newly written' in capsys.readouterr().out
    step = TRANSFORMS.build(dict(type='Resize', scale=(16, 16), interpolation='area'))
    for i in range(6):
        expected = step(dict(img=read_image(str(root / 'images' / f'{i}.jpg'))))['img']
        found = read_image(f'small/images/{i}.png')
        np.testing.assert_array_equal(found, expected)
    assert (tmp_path / 'small/annotations.csv').exists()
    assert not (tmp_path / 'small/originals').exists()
    Path('small/images/3.png').unlink()
    assert resize(args) == 0
    assert '1 newly written' in capsys.readouterr().out
    assert resize([str(root), '--size', '20', '--out', 'small']) == 2
    assert resize([str(root), '--size', '16', '--out', str(root / 'in')]) == 2


def test_resized_class_folders_keep_split_and_hash(tool, tmp_path):
    from hkd_mm.datasets.skin_disease import SkinDisease

    root = _folders(tmp_path / 'd', ['.'])
    _photo(root / 'A' / 'pat0_0.jpg', 99)  # beside pat0_0.png
    assert tool('data/resize_images')([
        str(root), '--size', '8', '--out', 'small']) == 0  # fmt: skip
    first, small = (
        SkinDisease(str(r), 'val', classes=['A', 'B']) for r in (root, 'small')
    )
    assert small.split_hash == first.split_hash
    assert len(list(Path('small').rglob('*.png'))) == 21


def test_resize_goes_on_after_a_damaged_file(tool, tmp_path, capsys):
    root = _folders(tmp_path / 'd', ['.'])
    (root / 'A' / 'pat0_0.png').write_bytes(b'')
    assert tool('data/resize_images')([
        str(root), '--size', '8', '--out', 'small']) == 2  # fmt: skip
    assert 'pat0_0.png cannot be read' in capsys.readouterr().err
    assert len(list(Path('small').rglob('*.png'))) == 19


# converters


def _ham_download(folder, nested):
    """Metadata beside two archives, or all in one outer archive."""
    lines = ['lesion_id,image_id,dx,dx_type,age,sex,localization']
    archives = [io.BytesIO(), io.BytesIO()]
    zips = [zipfile.ZipFile(archive, 'w') for archive in archives]
    labels = ('akiec', 'bcc', 'bkl', 'df', 'mel', 'nv', 'vasc')
    for i in range(28):
        name = f'ISIC_{i:07d}'
        lines.append(f'HAM_{i // 2},{name},{labels[i // 4]},histo,5,m,back')
        buffer = io.BytesIO()
        Image.new('RGB', (9, 9), (i, 0, 0)).save(buffer, 'jpeg')
        zips[i % 2].writestr(f'{name}.jpg', buffer.getvalue())
        zips[i % 2].writestr(f'__MACOSX/._{name}.jpg', b'x')
    for archive in zips:
        archive.close()
    files = {'HAM10000_metadata': '\n'.join(lines).encode()}
    for i, archive in enumerate(archives, 1):
        files[f'HAM10000_images_part_{i}.zip'] = archive.getvalue()
    folder.mkdir()
    if nested:
        with zipfile.ZipFile(folder / 'dataverse_files.zip', 'w') as outer:
            for name, content in files.items():
                outer.writestr(name, content)
    else:
        for name, content in files.items():
            (folder / name).write_bytes(content)


@pytest.mark.parametrize('nested', [False, True])
def test_convert_ham10000_and_again(tool, tmp_path, capsys, nested):
    from hkd_mm.datasets.isic import HAM10000

    _ham_download(tmp_path / 'download', nested)
    convert = tool('data/convert_ham10000')
    assert convert(['download', '--out', 'ham']) == 0
    assert '28 newly placed' in capsys.readouterr().out
    data = HAM10000('ham', 'all')
    assert data.class_counts().tolist() == [4] * 7
    info = data.get_data_info(0)
    assert info['lesion_id'].startswith('HAM_')
    assert info['metadata']['localization'] == 'back'
    before = Path('ham/annotations.csv').read_bytes()
    Path('ham/images/ISIC_0000003.jpg').unlink()
    assert convert(['download', '--out', 'ham']) == 0
    assert ' 1 newly placed' in capsys.readouterr().out
    assert Path('ham/annotations.csv').read_bytes() == before
    assert len(os.listdir('ham/images')) == 28


def test_convert_isic2019_links_unpacked_images(tool, tmp_path, capsys):
    from hkd_mm.datasets.isic import ISIC2019

    classes = ISIC2019.METAINFO['classes']
    truth = [','.join(['image', *classes, 'UNK'])]
    meta = ['image,age_approx,anatom_site_general,lesion_id,sex']
    for i in range(32):
        name = f'ISIC_{i:07d}' + '_downsampled' * (i % 2)
        marks = ['1.0' if c == i % 8 else '0.0' for c in range(8)]
        truth.append(','.join([name, *marks, '0.0']))
        meta.append(f'{name},50.0,back,{f"BCN_{i}" if i % 3 else ""},male')
        _photo(tmp_path / 'get/ISIC_2019_Training_Input' / f'{name}.jpg', i)
    for name, lines in (('GroundTruth', truth), ('Metadata', meta)):
        (tmp_path / f'get/ISIC_2019_Training_{name}.csv').write_text('\n'.join(lines))
    convert = tool('data/convert_isic2019')
    assert convert(['get', '--out', 'isic']) == 0
    data = ISIC2019('isic', 'all')
    assert data.class_counts().tolist() == [4] * 8
    assert sum(data.get_data_info(i)['lesion_id'] is None for i in range(32)) == 11
    placed = Path('isic/images/ISIC_0000000.jpg')
    source = tmp_path / 'get/ISIC_2019_Training_Input/ISIC_0000000.jpg'
    assert placed.samefile(source)  # a hard link
    source.unlink()
    assert convert(['get', '--out', 'other']) == 2
    assert '1 of 32 images' in capsys.readouterr().err


def test_convert_names_damaged_and_missing_downloads(tool, capsys):
    convert = tool('data/convert_ham10000')
    Path('broken.zip').write_bytes(b'PK\x03\x04half')
    assert convert(['broken.zip']) == 2
    assert 'broken.zip is damaged' in capsys.readouterr().err
    assert convert(['nothing']) == 2
    assert 'nothing does not exist' in capsys.readouterr().err
    Path('empty').mkdir()
    assert convert(['empty']) == 2
    assert 'no HAM10000_metadata' in capsys.readouterr().err


def test_convert_class_folders_draws_val_from_train(tool, tmp_path, capsys):
    from hkd_mm.datasets.skin_disease import SkinDisease

    _folders(
        tmp_path / 'get' / 'Skin set',
        ['Train', 'Test'],
        ['acne', 'rosacea', 'warts', 'junk'],
    )
    args = ['get', '--rename', 'acne=Acne', '--rename', 'rosacea=Acne',
            '--rename', 'junk=', '--val-ratio', '0.2',
            '--lesion-id', r'(pat\d+)_']  # fmt: skip
    convert = tool('data/convert_class_folders')
    # Both parts hold a pat0: the split of the download is of no use.
    assert convert([*args, '--out', 'set']) == 2
    error = capsys.readouterr().err
    assert 'lesion pat0 is in' in error and '--ignore-split' in error
    assert convert([*args, '--out', 'own', '--ignore-split']) == 0
    assert 'split' not in _rows(Path('own'))[0]
    args = args[:-2]
    assert convert([*args, '--out', 'set']) == 0
    parts = {
        part: SkinDisease('set', part, classes=['Acne', 'warts'])
        for part in ('train', 'val', 'test')
    }
    assert [len(data) for data in parts.values()] == [24, 6, 30]
    assert parts['val'].class_counts().tolist() == [4, 2]
    files = {
        parts[p].get_data_info(i)['img_path']
        for p in parts
        for i in range(len(parts[p]))
    }
    assert len(files) == 60 == len(list(Path('set/images').rglob('*.png')))
    before = Path('set/annotations.csv').read_bytes()
    assert convert([*args, '--out', 'set']) == 0
    assert ' 0 newly placed' in capsys.readouterr().out
    assert Path('set/annotations.csv').read_bytes() == before


def test_convert_class_folders_from_an_archive_with_lesions(tool, tmp_path):
    root = _folders(tmp_path / 'plain', ['.'])
    shutil.make_archive('get', 'zip', root)
    assert tool('data/convert_class_folders')([
        'get.zip', '--out', 'set', '--lesion-id', r'(pat\d+)_',
    ]) == 0  # fmt: skip
    rows = _rows(tmp_path / 'set')
    assert list(rows[0]) == ['image', 'label', 'lesion_id']
    assert len(rows) == 20
    assert {row['lesion_id'] for row in rows} == {f'pat{i}' for i in range(5)}


@pytest.mark.parametrize(
    'args, message',
    [
        (['--rename', 'C=D'], 'no class "C"; found: A, B'),
        (['--rename', 'A'], 'write OLD=NEW'),
        (['--lesion-id', 'pat'], 'put the id in brackets'),
        (['--lesion-id', '(x'], 'not a regular expression'),
        (['--lesion-id', '(zzz)'], 'fits no file name'),
    ],
)
def test_convert_class_folders_names_mistakes(tool, tmp_path, capsys, args, message):
    _folders(tmp_path / 'get', ['.'], number=2)
    assert tool('data/convert_class_folders')(['get', *args]) == 2
    assert message in capsys.readouterr().err
