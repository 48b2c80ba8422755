# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""The official tables of HAM10000 and ISIC 2019, by the names of columns."""

import re
from collections import Counter
from pathlib import Path

import pytest

from hkd_mm.datasets.isic import HAM10000, ISIC2019
from hkd_mm.datasets.records import SPLITS
from hkd_mm.errors import UserError

pytestmark = pytest.mark.usefixtures('in_tmp')

REAL = Path(__file__).parents[3] / 'shared' / 'data' / 'ham10000'
HAM_COUNTS = dict(akiec=327, bcc=514, bkl=1099, df=115, mel=1113, nv=6705, vasc=142)
ISIC = ISIC2019.METAINFO['classes']


def _ham(root, write_image, write_table, counts, folders):
    """A table like the official one, images spread over folders."""
    rows = []
    for label, number in counts.items():
        for i in range(number):
            rows.append(
                dict(
                    lesion_id=f'HAM_{label}_{i // 2}',
                    image_id=f'ISIC_{len(rows):07d}',
                    dx=label,
                    dx_type='histo',
                    age='50.0',
                    sex='male',
                    localization='back',
                )
            )
    write_table(root / 'HAM10000_metadata.csv', rows)
    for i, row in enumerate(rows):
        folder = folders[i % len(folders)]
        write_image(root / folder / f'{row["image_id"]}.jpg', i, size=8)
    return root


def test_ham10000_has_the_counts_of_its_table(tmp_path, write_image, write_table):
    if REAL.is_dir():  # the real photographs, where they are to hand
        root, counts, images = REAL, HAM_COUNTS, 10015
    else:
        counts = {name: max(6, n // 100) for name, n in HAM_COUNTS.items()}
        images = sum(counts.values())
        root = _ham(tmp_path / 'ham', write_image, write_table, counts, ['images'])
    parts = {part: HAM10000(str(root), part) for part in SPLITS}
    assert sum(map(len, parts.values())) == images
    total = sum(part.class_counts() for part in parts.values())
    assert dict(zip(parts['train'].classes, total.tolist())) == counts
    homes = {}
    for part, data in parts.items():
        for i in range(len(data)):
            info = data.get_data_info(i)
            homes.setdefault(info['lesion_id'], set()).add(part)
            assert 'originals' not in info['img_path']
    assert all(len(found) == 1 for found in homes.values())
    if REAL.is_dir():
        assert len(homes) == 7470
        assert [len(parts[part]) for part in SPLITS] == [8006, 1005, 1004]
        assert parts['test'].class_counts().tolist() == [
            33, 52, 110, 12, 112, 671, 14,
        ]  # fmt: skip
        assert parts['val'].split_hash.startswith('59f0ef2d353d1ac6')


@pytest.mark.parametrize(
    'folders',
    [
        ['HAM10000_images_part_1', 'HAM10000_images_part_2'],
        ['images'],
        ['.'],
        ['download/images'],
    ],
)
def test_images_may_lie_in_one_or_several_folders(
    tmp_path, write_image, write_table, folders
):
    counts = dict.fromkeys(HAM_COUNTS, 4)
    root = _ham(tmp_path / 'ham', write_image, write_table, counts, folders)
    write_image(root / 'originals' / 'ISIC_0000000.jpg', 0, size=30)
    data = HAM10000(str(root), 'all')
    assert data.class_counts().tolist() == [4] * 7
    sample = data.get_data_info(0)
    assert sample['metadata'] == dict(
        dx_type='histo', age='50.0', sex='male', localization='back'
    )


def test_a_tab_separated_table_without_suffix_is_read(
    tmp_path, write_image, write_table
):
    root = _ham(
        tmp_path / 'ham',
        write_image,
        write_table,
        dict.fromkeys(HAM_COUNTS, 4),
        ['images'],
    )
    csv = root / 'HAM10000_metadata.csv'
    (root / 'HAM10000_metadata').write_text(csv.read_text().replace(',', '\t'))
    csv.unlink()
    assert len(HAM10000(str(root), 'all')) == 28


def _one_hot(classes, number, prefix='ISIC_', suffix='', extra=()):
    rows = []
    for i in range(number):
        row = dict(image=f'{prefix}{i:07d}{suffix if i % 2 else ""}')
        row.update(
            {
                name: '1.0' if i % len(classes) == c else '0.0'
                for c, name in enumerate(classes)
            }
        )
        row.update(extra)
        rows.append(row)
    return rows


def test_a_companion_that_contradicts_itself_is_refused(
    tmp_path, write_image, write_table
):
    rows = _one_hot(['MEL', 'NV', 'BCC', 'AKIEC', 'BKL', 'DF', 'VASC'], 42)
    write_table(tmp_path / 'i/ISIC2018_Task3_Training_GroundTruth.csv', rows)
    lesions = [dict(image=row['image'], lesion_id='a') for row in rows]
    lesions += [dict(image=rows[3]['image'], lesion_id='b')]  # else the last is kept
    path = tmp_path / 'i/ISIC2018_Task3_Training_LesionGroupings.csv'
    write_table(path, lesions)
    for i, row in enumerate(rows):
        write_image(tmp_path / f'i/Input/{row["image"]}.jpg', i, 8)
    with pytest.raises(UserError, match='rows for image ISIC_0000003 that differ'):
        HAM10000(str(tmp_path / 'i'), 'all')


def test_isic2018_one_hot_with_lesion_groupings(tmp_path, write_image, write_table):
    order = ['MEL', 'NV', 'BCC', 'AKIEC', 'BKL', 'DF', 'VASC']
    rows = _one_hot(order, 42)
    write_table(tmp_path / 'i/ISIC2018_Task3_Training_GroundTruth.csv', rows)
    write_table(
        tmp_path / 'i/ISIC2018_Task3_Training_LesionGroupings.csv',
        [
            dict(image=row['image'], lesion_id=f'HAM_{i % 7}_{i // 14}',
                 **{'diagnosis confirm type': 'histopathology'})
            for i, row in enumerate(rows)
        ],
    )  # fmt: skip
    for i, row in enumerate(rows):
        write_image(tmp_path / f'i/Input/{row["image"]}.jpg', i, 8)
    data = HAM10000(str(tmp_path / 'i'), 'all')
    labels = {
        data.get_data_info(i)['sample_id']: data.classes[
            data.get_data_info(i)['gt_label']
        ]
        for i in range(len(data))
    }
    assert labels['ISIC_0000003'] == 'akiec'
    assert labels['ISIC_0000007'] == 'mel'
    assert len({data.get_data_info(i)['lesion_id'] for i in range(42)}) == 21
    assert data.get_data_info(0)['metadata'] == {
        'diagnosis confirm type': 'histopathology'
    }
    with pytest.raises(UserError, match='no column "AK"'):
        ISIC2019(
            str(tmp_path / 'i'),
            ann_file=('ISIC2018_Task3_Training_GroundTruth.csv'),
        )


def _isic(root, write_image, write_table, order=ISIC):
    rows = _one_hot(order, 64, suffix='_downsampled', extra=dict(UNK='0.0'))
    write_table(root / 'ISIC_2019_Training_GroundTruth.csv', rows)
    write_table(
        root / 'ISIC_2019_Training_Metadata.csv',
        [
            dict(
                image=row['image'],
                age_approx='55.0',
                anatom_site_general='',
                # half of the rows have none
                lesion_id=f'BCN_{i // 16}_{i % 8}' if i % 16 < 8 else '',
                sex='female',
            )
            for i, row in enumerate(rows)
        ],
    )
    for i, row in enumerate(rows):
        # every other file lost or kept its suffix
        name = row['image'] if i % 4 else row['image'] + '_downsampled'
        name = name.replace('_downsampled', '') if i % 4 == 3 else name
        write_image(root / f'ISIC_2019_Training_Input/{name}.jpg', i, 8)
    return root


@pytest.mark.parametrize('order', [ISIC, ISIC[::-1]])
def test_isic2019_by_column_name(tmp_path, write_image, write_table, order):
    root = _isic(tmp_path / 'i', write_image, write_table, order)
    data = ISIC2019(str(root), 'all')
    assert data.classes == ISIC
    assert data.class_counts().tolist() == [8] * 8
    infos = [data.get_data_info(i) for i in range(64)]
    for info in infos:
        number = int(re.search(r'\d+', info['sample_id'])[0])
        assert data.classes[info['gt_label']] == order[number % 8]
        assert f'ISIC_{number:07d}' in info['img_path']
        assert info['metadata'] == dict(
            age_approx='55.0', anatom_site_general='', sex='female'
        )
    lesions = Counter(info['lesion_id'] for info in infos)
    assert lesions.pop(None) == 32 and set(lesions.values()) == {1}


def test_unk_rows_are_left_out_and_double_marks_refused(
    tmp_path, write_image, write_table
):
    root = _isic(tmp_path / 'i', write_image, write_table)
    table = root / 'ISIC_2019_Training_GroundTruth.csv'
    lines = table.read_text().splitlines()
    first = lines[1]
    lines[1] = first.split(',')[0] + ',0.0' * 8 + ',1.0'
    table.write_text('\n'.join(lines))
    assert len(ISIC2019(str(root), 'all')) == 63
    lines[1] = first.split(',')[0] + ',1.0,1.0' + ',0.0' * 7
    table.write_text('\n'.join(lines))
    with pytest.raises(UserError, match='found MEL and NV'):
        ISIC2019(str(root), 'all')
    lines[1] = first.split(',')[0] + ',yes' + ',0.0' * 8
    table.write_text('\n'.join(lines))
    with pytest.raises(UserError, match='ISIC_0000000: a class column'):
        ISIC2019(str(root), 'all')


def test_a_missing_class_column_names_those_found(tmp_path, write_image, write_table):
    root = _isic(tmp_path / 'i', write_image, write_table)
    table = root / 'ISIC_2019_Training_GroundTruth.csv'
    table.write_text(table.read_text().replace('VASC', 'VAS'))
    with pytest.raises(UserError, match='no column "VASC".*found: image, mel'):
        ISIC2019(str(root))


def test_a_root_without_table_names_those_looked_for(tmp_path, write_image):
    write_image(tmp_path / 'x' / 'images' / 'a.png')
    with pytest.raises(UserError, match='HAM10000_metadata.*ann_file=FILE'):
        HAM10000(str(tmp_path / 'x'))
    with pytest.raises(UserError, match='does not exist'):
        HAM10000(str(tmp_path / 'x'), ann_file='none.csv')


def test_a_label_outside_the_classes_is_refused(tmp_path, write_image, write_table):
    root = _ham(
        tmp_path / 'ham',
        write_image,
        write_table,
        dict(HAM_COUNTS, **dict.fromkeys(HAM_COUNTS, 3), scc=1),
        ['images'],
    )
    with pytest.raises(UserError, match='label "scc"'):
        HAM10000(str(root))
