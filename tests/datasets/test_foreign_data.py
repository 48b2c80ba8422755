# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Tables and folders as others ship them: columns, groups, names, leftovers."""

import json
import os
import shutil
import unicodedata
from pathlib import Path

import pytest

from hkd_mm.config.compose import compose_config
from hkd_mm.config.data_summary import summarize_data
from hkd_mm.datasets import (
    HAM10000,
    ISIC2019,
    PackedDataset,
    SkinDisease,
    SkinLesionMasks,
)
from hkd_mm.datasets.label_tables import Columns, read_rows
from hkd_mm.datasets.records import SPLITS, describe_left_out
from hkd_mm.errors import UserError

CONFIGS = Path(__file__).parents[2] / 'configs'
pytestmark = pytest.mark.usefixtures('in_tmp')


@pytest.fixture
def logged(monkeypatch):
    """Lines of the log."""
    from mmengine.logging import MMLogger

    from hkd_mm.datasets import records

    lines = []
    logger = MMLogger.get_current_instance()
    monkeypatch.setattr(logger, 'info', lines.append)
    records.log_once.cache_clear()
    return lines


@pytest.fixture
def public(tmp_path, write_image, write_table):
    """An archive's table: 60 images, 30 lesions, 10 patients, two classes."""

    def make(**columns):
        rows = []
        for i in range(60):
            write_image(tmp_path / f'data/jpg/ISIC_{i:03}.jpg', i, 8)
            rows.append(
                dict(
                    isic_id=f'ISIC_{i:03}',
                    diagnosis=('nevus', 'melanoma')[i % 2],
                    lesion_id=f'L{i // 2}',
                    patient_id=f'P{i // 6}',
                    case=f'C{i // 12}',
                )
            )
            rows[-1].update({key: value(i) for key, value in columns.items()})
        write_table(tmp_path / 'data/metadata.csv', rows)
        return tmp_path / 'data'

    return make


NAMES = dict(ann_file='metadata.csv', image_col='isic_id', label_col='Diagnosis')


def homes(kind, root, key, **words):
    """The parts in which each value of a column of metadata is, or the group."""
    found = {}
    for part in SPLITS:
        data = kind(str(root), part, **words)
        for i in range(len(data)):
            info = data.get_data_info(i)
            name = info['lesion_id'] if key is None else info['metadata'][key]
            found.setdefault(name, set()).add(part)
    return found


def test_a_public_table_is_read_by_the_names_of_its_columns(public):
    found = homes(SkinDisease, public(), 'patient_id', **NAMES)
    assert len(found) == 10 and all(len(parts) == 1 for parts in found.values())
    data = SkinDisease(str(public()), 'all', **NAMES)
    assert data.classes == ('melanoma', 'nevus') and len(data) == 60
    info = data.get_data_info(0)
    assert info['metadata'] == dict(patient_id='P0', case='C0')


@pytest.mark.parametrize('words', ['case', ['case'], ('CASE ', 'lesion_id')])
def test_groups_are_the_columns_that_are_named(public, words, logged):
    root = public()
    found = homes(SkinDisease, root, 'case', group_cols=words, **NAMES)
    assert len(found) == 5 and all(len(parts) == 1 for parts in found.values())
    columns = 'case' if len(words) != 2 else 'case and lesion_id'
    assert any(f'by {columns}, wrote' in line for line in logged)


@pytest.mark.parametrize(
    ('words', 'reason'),
    [
        (dict(image_col='img'), 'no column "img"; found: isic_id.*image_col=NAME'),
        (dict(label_col='dx'), 'no column "dx"; found: .*label_col=NAME'),
        (dict(group_cols='who,case'), 'no column "who"; .*group_cols=A,B'),
        (dict(split_col='fold'), 'no column "fold"; .*split_col=NAME'),
        (dict(image_col=7), 'image_col: .*valid string, not 7'),
        (dict(group_cols=''), 'group_cols'),
        (dict(group_cols=[]), 'group_cols'),
    ],
)
def test_columns_that_are_not_there_are_told(public, words, reason):
    with pytest.raises(UserError, match=reason) as told:
        SkinDisease(str(public()), **{**NAMES, **words})
    assert '\n' not in str(told.value)


def test_the_command_line_names_columns(public):
    cfg = compose_config(
        CONFIGS / 'hybrid_wrn50_mbv2.py',
        [
            f'data_root={public()}',
            *(f'{key}={value}' for key, value in NAMES.items()),
            'group_cols=patient_id,lesion_id',
            'packed=False',
        ],
    )
    summary = summarize_data(cfg)
    assert summary.classes == ('melanoma', 'nevus')
    assert sum(summary.sizes.values()) == 60


def test_a_lesion_here_and_a_patient_there_are_one_group(
    tmp_path, write_image, write_table, logged
):
    root, classes = tmp_path / 'isic', ISIC2019.METAINFO['classes']
    rows = [
        dict(
            image=f'ISIC_{i:07}',
            lesion_id=f'L{i // 2}',
            **{name: float(i % 8 == k) for k, name in enumerate(classes)},
        )
        for i in range(160)
    ]
    write_table(root / 'ISIC_2019_Training_GroundTruth.csv', rows)
    patients = [
        dict(image=row['image'], patient_id=f'P{i // 16}-{(i + 1) // 4}', sex='female')
        for i, row in enumerate(rows)
    ]
    # patients and lesions overlap, but for a break after every 16th image
    patients[0]['patient_id'] = 'NA'
    write_table(root / 'ISIC_2019_Training_Metadata.csv', patients)
    for i, row in enumerate(rows):
        write_image(root / f'Input/{row["image"]}.jpg', i, 8)
    found = homes(ISIC2019, root, 'patient_id')
    del found['NA']
    assert all(len(parts) == 1 for parts in found.values())
    assert any('by lesion_id and patient_id, wrote' in line for line in logged)
    assert {len(parts) for parts in homes(ISIC2019, root, None).values()} == {1}


def test_the_columns_of_isic_2020(tmp_path, write_image, write_table):
    rows = [
        dict(
            image_name=f'ISIC_{i}',
            patient_id=f'IP_{i // 8}',
            target=int(i % 4 == 0),
            lesion_id=f'IL_{i // 2}',
        )
        for i in range(80)
    ]
    write_table(tmp_path / 'd/ISIC_2020_Training_GroundTruth_v2.csv', rows)
    for i in range(80):
        write_image(tmp_path / f'd/train/ISIC_{i}.jpg', i, 8)
    words = dict(
        ann_file='ISIC_2020_Training_GroundTruth_v2.csv',
        image_col='image_name',
        label_col='target',
    )
    found = homes(SkinDisease, tmp_path / 'd', 'patient_id', **words)
    assert len(found) == 10 and all(len(parts) == 1 for parts in found.values())


def test_parts_are_spelled_in_many_ways(public):
    root = public(part=lambda i: ('Train', 'VALID', 'Testing', 'training')[i // 6 % 4])
    words = dict(NAMES, split_col='part')
    assert [len(SkinDisease(str(root), p, **words)) for p in SPLITS] == [30, 18, 12]


def test_blank_parts_are_no_parts(public):
    root = public(part=lambda i: ('NA', '-', 'nan', '')[i % 4])
    words = dict(NAMES, split_col='part')
    assert [len(SkinDisease(str(root), p, **words)) for p in SPLITS] == [48, 6, 6]


def test_without_a_val_part_one_is_drawn_out_of_train(public, logged):
    root = public(split=lambda i: 'test' if i >= 48 else 'train')
    parts = [SkinDisease(str(root), p, **NAMES) for p in SPLITS]
    assert [len(part) for part in parts] == [42, 6, 12]
    found = homes(SkinDisease, root, 'patient_id', **NAMES)
    assert all(len(parts) == 1 for parts in found.values())
    lines = [line for line in logged if 'without a val part' in line]
    assert len(lines) == 1 and 'drew 6 of its 48 training' in lines[0]
    assert 'lesion_id and patient_id' in lines[0] and 'split_seed 42' in lines[0]
    assert not os.path.exists('work_dirs')


def test_a_label_that_says_nothing_is_told(public):
    root = public(diagnosis=lambda i: 'NA' if i == 7 else 'ab'[i % 2])
    with pytest.raises(UserError, match=r'has the label "NA".*classes=\[...\]'):
        SkinDisease(str(root), **NAMES)
    data = SkinDisease(str(root), 'all', classes=['a', 'b', 'NA'], **NAMES)
    assert data.class_counts().tolist() == [30, 29, 1]


@pytest.mark.parametrize(
    'name', ['/home/me/photos/{}', r'C:\Users\me\photos\{}', 'D:/x/{}', '/{}']
)
def test_paths_of_another_machine_are_found_by_their_names(public, logged, name):
    root = public(isic_id=lambda i: name.format(f'ISIC_{i:03}.jpg'))
    data = SkinDisease(str(root), 'all', **NAMES)
    for i in range(60):
        info = data.get_data_info(i)
        assert info['img_path'].endswith(info['sample_id'][-12:])
    lines = [line for line in logged if 'another machine' in line]
    assert len(lines) == 1 and 'names 60 images' in lines[0]


def test_a_foreign_path_that_could_be_two_files_is_told(public, write_image):
    root = public(isic_id=lambda i: f'/home/me/x/ISIC_{i:03}.jpg')
    shutil.copytree(root / 'jpg', root / 'again')
    with pytest.raises(UserError, match='ISIC_000.jpg could be .* or .*data root'):
        SkinDisease(str(root), **NAMES)


def test_windows_paths_below_the_root(public):
    root = public(isic_id=lambda i: rf'jpg\ISIC_{i:03}.jpg')
    assert len(SkinDisease(str(root), 'all', **NAMES)) == 60


def test_what_is_no_photograph_is_counted(tmp_path, write_image, logged):
    root = tmp_path / 'data'
    for i in range(20):
        write_image(root / 'AB'[i % 2] / f'{i}.png', i)
    for name in ('A/1.gif', 'A/2.GIF', 'B/1.dcm', 'B/IM0001', 'B/.hidden.gif'):
        (root / name).write_bytes(b'x')
    (root / 'readme.txt').write_bytes(b'x')
    (root / 'LICENSE').write_bytes(b'x')
    for split in SPLITS:
        SkinDisease(str(root), split)
    line = (
        f'{root}: left out 4 files that are no photographs '
        '(.gif 2, .dcm 1, without suffix 1)'
    )
    assert logged.count(line) == 1
    (tmp_path / 'none').mkdir()
    assert describe_left_out(tmp_path / 'none') == ''
    shutil.rmtree(root / 'A')
    (root / 'A').mkdir()
    (root / 'A/1.dcm').write_bytes(b'x')
    with pytest.raises(UserError, match=r'has no image.*\(.dcm 1\)'):
        SkinDisease(str(root), classes=['A', 'B'])


def test_linked_class_folders_are_read(tmp_path, write_image):
    for i in range(20):
        write_image(tmp_path / 'elsewhere' / 'AB'[i % 2] / f'{i}.png', i)
    (tmp_path / 'data').mkdir()
    for name in 'AB':
        (tmp_path / 'data' / name).symlink_to(tmp_path / 'elsewhere' / name)
    data = SkinDisease(str(tmp_path / 'data'), 'all')
    assert data.class_counts().tolist() == [10, 10]
    (tmp_path / 'data/C').symlink_to(tmp_path / 'elsewhere/A')
    with pytest.raises(UserError, match='A and .*C are one and the same folder'):
        SkinDisease(str(tmp_path / 'data'), 'all')


@pytest.mark.parametrize('target', ['../B', '..', '../B/deep', '../../data/B'])
@pytest.mark.parametrize('top', ['', 'train/'])
def test_a_link_into_another_class_is_refused(tmp_path, write_image, target, top):
    for i in range(20):
        write_image(tmp_path / f'data/{top}{"AB"[i % 2]}/deep/{i}.png', i)
        write_image(tmp_path / f'data/{top}{"AB"[i % 2]}/{i}.png', i + 20)
    if top:
        for i, name in enumerate('AB', 40):
            write_image(tmp_path / f'data/val/{name}/{i}.png', i)
        target = target.replace('data/', 'data/train/').replace('../../d', '../../../d')
    (tmp_path / f'data/{top}A/again').symlink_to('.')  # a loop adds nothing
    assert SkinDisease('data', 'all').class_counts().sum() == 40 + 2 * bool(top)
    (tmp_path / f'data/{top}A/more').symlink_to(target)
    with pytest.raises(UserError, match='more.* and .*B.* are one and the same folder'):
        SkinDisease('data', 'all').class_counts()


def test_a_link_between_parts_is_refused(tmp_path, write_image):
    for i in range(20):
        write_image(tmp_path / f'data/train/{"AB"[i % 2]}/{i}.png', i)
        write_image(tmp_path / f'data/val/{"AB"[i % 2]}/{i}.png', i + 20)
    (tmp_path / 'data/val/A/more').symlink_to('../../train/A')
    with pytest.raises(UserError, match='are one and the same folder'):
        SkinDisease('data', 'all').class_counts()


@pytest.mark.parametrize('column', ['PatientID', 'Patient Id', 'patient', 'subject-no'])
@pytest.mark.parametrize('lesion', ['lesion_id', 'Lesion ID', 'LesionID'])
def test_groups_are_found_however_they_are_spelled(public, column, lesion):
    root = public()
    path = root / 'metadata.csv'
    text = path.read_text().replace('lesion_id', lesion).replace('patient_id', column)
    path.write_text(text)
    found = homes(SkinDisease, root, None, **NAMES)
    assert len(found) == 10 and all(len(parts) == 1 for parts in found.values())
    assert SkinDisease(str(root), **NAMES).records()[0].group == 'lesion and patient'


def test_two_spellings_are_asked_about_and_named_columns_left_alone(tmp_path):
    table = tmp_path / 'table.csv'
    table.write_text('image,subject_id,PatientID,patient\na.png,1,P,x\n')
    with pytest.raises(UserError, match='"patientid" both look like a patient_id'):
        read_rows(table, Columns())
    (row,) = read_rows(table, Columns(label_col='patientid', image_col='subject_id'))
    assert row == dict(image='a.png', subject_id='1', patientid='P', patient_id='x')


def names_of(kind):
    if kind == 'bytes':
        return os.fsdecode(b'\xff\xe9') + '{}.png'
    if kind == 'long':
        return 'x' * 244 + '{:02}.png'
    return unicodedata.normalize(kind, 'é{}.png')


@pytest.mark.parametrize('kind', ['bytes', 'long', 'NFD', 'NFC'])
@pytest.mark.parametrize('folder', [b'data', b'da\xffta', b'd' * 250])
def test_names_of_any_bytes_are_packed_and_split(tmp_path, write_image, kind, folder):
    root = tmp_path / os.fsdecode(folder)
    for i in range(20):
        image = write_image(tmp_path / 'x.png', i)
        path = root / 'AB'[i % 2] / names_of(kind).format(i)
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(image, path)
    parts = [
        PackedDataset(
            dict(type='hkd_mm.SkinDisease', data_root=str(root), split=part), size=8
        )
        for part in SPLITS
    ]
    assert [len(part) for part in parts] == [16, 2, 2]
    for name in parts[0].sample_ids:
        name.encode()  # as results write it
    assert len(os.listdir('work_dirs/splits')) == 1
    again = SkinDisease(str(root), 'train', split_file='s' * 250 + '.json')
    assert again.split_hash == parts[0].split_hash


@pytest.mark.parametrize('disk', ['NFC', 'NFD'])
@pytest.mark.parametrize('table', ['NFC', 'NFD'])
@pytest.mark.parametrize('folder', ['', 'Kürbis/'])
def test_tables_and_disks_may_compose_letters_differently(
    tmp_path, write_image, write_table, disk, table, folder
):
    rows = []
    for i in range(12):
        name = f'{folder}é{i}.png'
        write_image(tmp_path / 'd' / unicodedata.normalize(disk, name), i)
        label = unicodedata.normalize(table, ('nævus', 'é')[i % 2])
        name = unicodedata.normalize(table, name)
        rows.append(dict(image=name, label=label))
    write_table(tmp_path / 'd/annotations.csv', rows)
    for classes in (None, ['nævus', 'é']):
        data = SkinDisease(str(tmp_path / 'd'), 'all', classes=classes)
        assert data.class_counts().tolist() == [6, 6]


@pytest.mark.parametrize('name', ['annotations.csv', 'x.csv'])
def test_a_pipe_is_no_table(tmp_path, write_image, name):
    write_image(tmp_path / 'd/A/1.png')
    os.mkfifo(tmp_path / 'd' / name)
    with pytest.raises(UserError, match='cannot be read: a FIFO, device'):
        SkinDisease(str(tmp_path / 'd'), ann_file=name)
    with pytest.raises(UserError, match='split.json: .*FIFO'):
        os.mkfifo(tmp_path / 'split.json')
        write_image(tmp_path / 'e/A/1.png')
        write_image(tmp_path / 'e/B/1.png', 1)
        SkinDisease(str(tmp_path / 'e'), split_file=str(tmp_path / 'split.json'))[0]


@pytest.mark.parametrize(
    ('change', 'reason'),
    [
        (dict(version=99), 'version: .*1, not 99'),
        (dict(train={}), 'train: .*valid array|train: .*list'),
        (dict(val=[1, 2]), 'val.0: .*string, not 1'),
        (dict(test='abc'), 'test: '),
        (dict(data_hash=7), 'data_hash: '),
        (dict(seed='x'), 'seed: '),
        (dict(counts=[]), 'counts: '),
        (dict(version=[[]]), 'version: '),
    ],
)
def test_a_split_file_of_other_kinds_is_refused(public, change, reason):
    root, path = str(public()), 's.json'
    SkinDisease(root, split_file=path, **NAMES)
    with open(path) as stream:
        document = json.load(stream)
    with open(path, 'w') as stream:
        json.dump({**document, **change}, stream)
    with pytest.raises(UserError, match=reason) as told:
        SkinDisease(root, split_file=path, **NAMES)
    assert 's.json' in str(told.value) and '\n' not in str(told.value)
    with open(path, 'w') as stream:
        stream.write('{"train": ' + '[' * 100_000 + ']' * 100_000 + '}')
    with pytest.raises(UserError, match='nested too deeply'):
        SkinDisease(root, split_file=path, **NAMES)


@pytest.mark.parametrize('mark', ['\n', '\r', '\t', '\x1b', '\x85', '\u2028'])
def test_a_class_of_several_lines_is_refused(tmp_path, write_image, mark):
    for i, name in enumerate([f'Acne{mark}rosacea', 'Eczema']):
        write_image(tmp_path / f'data/{name}/{i}.jpg', i, 8)
    with pytest.raises(UserError, match=r"class 'Acne\\.+rosacea' has a line") as error:
        SkinDisease('data').class_counts()
    assert str(error.value).isprintable() and 'rename its folder' in str(error.value)


def test_brackets_in_names_are_no_nesting(tmp_path, write_image):
    for i in range(240):
        write_image(tmp_path / 'd' / 'AB'[i % 2] / f'[{{{i}"\\.png', i % 7, 4)
    for _ in range(2):
        assert len(SkinDisease(str(tmp_path / 'd'), split_file='s.json')) == 192


@pytest.mark.parametrize(
    'ratios',
    ['1e999:1', 'nan:1', [float('inf'), 1], 5, None, ['a', 1], '1e9999999999:1'],
)
def test_absurd_ratios_are_refused(public, ratios):
    with pytest.raises(UserError, match='split_ratios'):
        SkinDisease(str(public()), split_ratios=ratios, **NAMES)[0]


def test_one_class_of_one_image_is_told(tmp_path, write_image, logged):
    for i in range(31):
        write_image(tmp_path / 'd' / ('C' if i == 30 else 'AB'[i % 2]) / f'{i}.png', i)
    parts = [SkinDisease(str(tmp_path / 'd'), part) for part in SPLITS]
    assert [part.class_counts()[2] for part in parts] == [1, 0, 0]
    assert logged[-1].endswith('too few groups for an image of C in val, C in test')


def test_ham10000_takes_other_columns(tmp_path, write_image, write_table):
    kinds = HAM10000.METAINFO['classes']
    rows = [dict(img_id=f'a{i}', what=kinds[i % 7]) for i in range(70)]
    write_table(tmp_path / 'd/HAM10000_metadata.csv', rows)
    for i in range(70):
        write_image(tmp_path / f'd/a{i}.png', i, 8)
    with pytest.raises(UserError, match='image_col=NAME'):
        HAM10000(str(tmp_path / 'd'))
    data = HAM10000(str(tmp_path / 'd'), 'all', image_col='img_id', label_col='what')
    assert data.class_counts().tolist() == [10] * 7


def test_a_table_of_any_name_is_found_where_its_columns_are_named(public, write_image):
    root = public()
    words = dict(image_col='isic_id', label_col='diagnosis')
    assert len(SkinDisease(str(root), 'all', **words)) == 60
    (root / 'other.csv').write_text('a,b\n1,2\n')
    with pytest.raises(UserError, match=r'metadata.csv, other.csv\); .*ann_file=FILE'):
        SkinDisease(str(root), **words)
    for i in range(20):
        write_image(root.parent / 'folders' / 'AB'[i % 2] / f'{i}.png', i)
    for kind in (SkinDisease, SkinLesionMasks):
        with pytest.raises(UserError, match=r'not one other table \(none\)'):
            kind(str(root.parent / 'folders'), group_cols='patient_id')[0]
