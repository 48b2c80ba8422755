# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Images with masks, as the data tools look at them."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_slices import make_slices


@pytest.fixture
def slices(in_tmp):
    return make_slices(in_tmp / 'ct')


def rewrite(root, change):
    path = root / 'split_dataset.csv'
    with path.open(newline='') as file:
        rows = [change(row) for row in csv.DictReader(file)]
    with path.open('w', newline='') as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def verified(tool, root, *more):
    argv = [str(root), '--no-near', '--json', 'found.json', *more]
    code = tool('data/verify')([*argv, '--workers', '1'])
    return code, json.loads(Path('found.json').read_text())


def test_slices_are_verified_as_what_they_are(slices, tool):
    code, found = verified(tool, slices)
    assert code == 0 and found['images'] == 40
    assert found['counts']['train'] == dict(empty=2, foreground=18)
    assert found['counts']['test'] == dict(empty=1, foreground=9)


def test_a_patient_in_two_parts_is_found(slices, tool, capsys):
    def torn(row):
        moved = row['original_image'] == 'p0_3'
        return dict(row, mode='test' if moved else row['mode'])

    rewrite(slices, torn)
    code, found = verified(tool, slices)
    assert code == 1
    [leak] = found['leaks']
    assert (leak['kind'], leak['key']) == ('patient', '0')
    assert leak['splits']['test'] == ['0/p0_3']
    assert 'same patient 0 in test: 0/p0_3' in capsys.readouterr().out


def test_a_split_of_slices_is_the_one_that_a_training_draws(slices, tool, capsys):
    from hkd_mm.datasets.masks.mask_dataset import LIDCNodule

    rewrite(slices, lambda row: dict(row, mode=''))
    assert tool('data/split')([str(slices), '--out', 's.json']) == 0
    said = capsys.readouterr().out
    assert 'split by patient_id' in said and 'foreground' in said
    drawn = json.loads(Path('s.json').read_text())
    data = LIDCNodule(str(slices), split='val')
    assert data.split_hash == drawn['hash']


def test_folders_of_photographs_and_masks_are_recognised(in_tmp, tool):
    rng = np.random.default_rng(0)
    for number in range(6):
        for folder, kind in (('Image', 'jpg'), ('Mask', 'png')):
            path = in_tmp / f'skin/{folder}/{number}.{kind}'
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = rng.integers(0, 255, (40, 40, 3), np.uint8)
            Image.fromarray(pixels).save(path)
    code, found = verified(tool, in_tmp / 'skin')
    assert code == 0 and found['images'] == 6  # not classes Image and Mask
    assert sum(x.get('foreground', 0) for x in found['counts'].values()) == 6
    # a table of classes wins: masks may lie beside the photographs
    rows = [f'Image/{n}.jpg,{"ab"[n % 2]}' for n in range(6)]
    table = in_tmp / 'skin/annotations.csv'
    table.write_text('\n'.join(['image,label', *rows]))
    code, found = verified(tool, in_tmp / 'skin')
    assert code == 0 and 'foreground' not in str(found['counts'])
    table.unlink()
    shutil.rmtree(in_tmp / 'skin/Mask')
    code, found = verified(tool, in_tmp / 'skin')  # class folders of one class
    assert code == 1
    assert found['refused'] == ["classes must name at least two classes, got ['Image']"]


def test_slices_are_packed_by_a_config(slices, tool, capsys):
    assert tool('data/pack')([str(slices), '--size', '32']) == 2
    assert 'holds images with masks; give a config' in capsys.readouterr().err
