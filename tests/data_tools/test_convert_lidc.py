# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Small DICOM scans and XML files by hand, turned into slices and masks."""

import csv
import shutil

import numpy as np
import pytest
from PIL import Image

from hkd_mm.data_tools.convert_lidc import convert_lidc
from hkd_mm.data_tools.lidc import (
    Nodule,
    Outline,
    Readings,
    agreed_nodules,
    fill_outlines,
    read_outlines,
)
from hkd_mm.errors import UserError
from hkd_mm.io.atomic_files import incomplete_marker
from hkd_mm.registry import DATASETS

SIDE, COUNT = 24, 6
SPACE = 'http://www.nih.gov'


def box(left, top, right, bottom):
    """Corners of an outline whose inside is one pixel smaller all round."""
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


def roi(z, points, uid='', inclusion='TRUE'):
    edges = ''.join(
        f'<edgeMap><xCoord>{x}</xCoord><yCoord>{y}</yCoord></edgeMap>'
        for x, y in points
    )
    return (
        f'<roi><imageZposition>{z}</imageZposition>'
        f'<imageSOP_UID>{uid}</imageSOP_UID>'
        f'<inclusion>{inclusion}</inclusion>{edges}</roi>'
    )


def nodule(*rois, malignancy=None):
    rated = (
        ''
        if malignancy is None
        else '<characteristics><subtlety>5</subtlety><malignancy>'
        f'{malignancy}</malignancy></characteristics>'
    )
    return (
        f'<unblindedReadNodule><noduleID>1</noduleID>{rated}'
        f'{"".join(rois)}</unblindedReadNodule>'
    )


def write_xml(path, series, *readers):
    sessions = ''.join(
        f'<readingSession><servicingRadiologistID>{i}'
        f'</servicingRadiologistID>{"".join(nodules)}<nonNodule>'
        '<imageZposition>0</imageZposition></nonNodule></readingSession>'
        for i, nodules in enumerate(readers)
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f'<?xml version="1.0"?><LidcReadMessage xmlns="{SPACE}">'
        f'<ResponseHeader><SeriesInstanceUid>{series}</SeriesInstanceUid>'
        f'</ResponseHeader>{sessions}</LidcReadMessage>'
    )
    return path


def write_slice(path, series, number, z, hounsfield, slope=2, patient='P1'):
    pydicom = pytest.importorskip('pydicom')
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

    meta = pydicom.dataset.FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = f'{series}.{number}'
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = pydicom.dataset.Dataset()
    data.file_meta = meta
    data.SOPClassUID = CTImageStorage
    data.SOPInstanceUID = f'{series}.{number}'
    data.SeriesInstanceUID, data.PatientID = series, patient
    data.Modality, data.InstanceNumber = 'CT', number
    data.ImagePositionPatient = [-10, -10, z]
    data.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    data.PixelSpacing = [0.75, 0.75]
    data.Rows = data.Columns = SIDE
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, 'MONOCHROME2'
    data.BitsAllocated = data.BitsStored = 16
    data.HighBit, data.PixelRepresentation = 15, 1
    data.RescaleSlope, data.RescaleIntercept = slope, -1000
    raw = (hounsfield + 1000) / slope
    data.PixelData = raw.astype('<i2').tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    data.save_as(path, enforce_file_format=True)
    return path


def values(number):
    """Even Hounsfield units, other ones in each slice."""
    base = np.arange(SIDE * SIDE).reshape(SIDE, SIDE)
    return base * 2 - 1000 + 100 * number


@pytest.fixture
def download(tmp_path):
    """A patient whose files are named against the order of the slices.

    Slice n lies at z = -5 + 2.5 n. Two readers agree on a nodule in slices 2
    and 3, a third outlines it in slice 3 only; a fourth, and nobody else,
    outlines something in slice 5.
    """
    root = tmp_path / 'download'
    for n in range(COUNT):
        name = f'{COUNT - n:03}.dcm'
        z = -5 + 2.5 * n
        write_slice(root / 'ct' / name, '1.2.3', COUNT - n, z, values(n))
    (root / 'ct' / 'LICENSE').write_text('read me')
    uid = {n: f'1.2.3.{COUNT - n}' for n in range(COUNT)}
    write_xml(
        root / 'xml' / 'a.xml',
        '1.2.3',
        [
            nodule(
                roi(0.0, box(4, 4, 12, 12), uid[2]),
                roi(2.5, box(4, 4, 12, 12), uid[3]),
                roi(2.5, box(6, 6, 8, 8), uid[3], 'FALSE'),
                malignancy=5,
            )
        ],
        [
            nodule(
                roi(0.0, box(6, 4, 14, 12), uid[2]),
                roi(2.5, box(6, 4, 14, 12), uid[3]),
                malignancy=3,
            )
        ],
        [nodule(roi(2.5, box(4, 4, 12, 10), uid[3]), malignancy=4)],
        [nodule(roi(7.5, box(15, 15, 20, 20), uid[5]), malignancy=1)],
    )
    (root / 'xml' / 'b.xml').write_text('<IdriReadMessage/>')
    return root


def rows_of(out):
    with open(out / 'split_dataset.csv', newline='') as stream:
        return list(csv.DictReader(stream))


def read(path):
    return np.asarray(Image.open(path))


def test_slices_and_masks(download, tmp_path):
    out = tmp_path / 'lidc'
    done = convert_lidc([str(download)], str(out))
    assert done == dict(patients=1, slices=2, clean=0, nodules=1, unread=0, lost=0)
    rows = rows_of(out)
    assert [row['slice_no'] for row in rows] == ['2', '3']
    assert rows[0]['original_image'] == rows[0]['mask_image']
    assert rows[0]['malignancy'] == '4'  # of 5, 3 and 4; 1 is another's
    assert (rows[0]['is_cancer'], rows[0]['is_clean']) == ('TRUE', 'FALSE')
    assert rows[0]['pixel_spacing'] == '0.75'
    for row, n in zip(rows, (2, 3)):
        image = read(out / 'Image' / 'P1' / f'{row["original_image"]}.png')
        assert image.dtype == np.uint16
        assert np.array_equal(image, values(n) + 1024)
    # readers 1 and 2 in slice 2: columns 7..11, rows 5..11
    want = np.zeros((SIDE, SIDE), bool)
    want[5:12, 7:12] = True
    mask = read(out / 'Mask' / 'P1' / f'{rows[0]["mask_image"]}.png')
    assert np.array_equal(mask, 255 * want)
    # and slice 3: two of 1 (5..11, without the box 6..8), 2 (7..13) and 3
    # (5..11, rows 5..9)
    votes = np.zeros((SIDE, SIDE), int)
    votes[5:12, 5:12] += 1
    votes[6:9, 6:9] -= 1
    votes[5:12, 7:14] += 1
    votes[5:10, 5:12] += 1
    mask = read(out / 'Mask' / 'P1' / f'{rows[1]["mask_image"]}.png')
    assert np.array_equal(mask, 255 * (votes >= 2))


def test_pixels_that_are_not_square(download, tmp_path):
    pydicom = pytest.importorskip('pydicom')
    for path in (download / 'ct').glob('*.dcm'):
        data = pydicom.dcmread(path)
        data.PixelSpacing = [0.5, 0.75]  # row to row, column to column
        data.save_as(path)
    out = tmp_path / 'lidc'
    convert_lidc([str(download)], str(out))
    assert {row['pixel_spacing'] for row in rows_of(out)} == {'0.5 0.75'}
    for path in (download / 'ct').glob('*.dcm'):
        data = pydicom.dcmread(path)
        del data.PixelSpacing
        data.save_as(path)
    convert_lidc([str(download)], str(tmp_path / 'untold'))
    assert {r['pixel_spacing'] for r in rows_of(tmp_path / 'untold')} == {''}


def test_clean_slices_on_request(download, tmp_path):
    out = tmp_path / 'lidc'
    done = convert_lidc([str(download)], str(out), clean=2)
    assert (done['slices'], done['clean']) == (4, 2)
    clean = [row for row in rows_of(out) if row['is_clean'] == 'TRUE']
    # of 0, 1 and 4: in 5 one reader saw something
    assert [row['slice_no'] for row in clean] == ['0', '4']
    assert {row['mask_image'] for row in clean} == {''}
    assert convert_lidc([str(download)], str(out), clean=9)['clean'] == 3


def test_a_slice_that_lies_there_twice_is_one(download, tmp_path):
    once = convert_lidc([str(download)], str(tmp_path / 'once'), clean=9)
    shutil.copytree(download / 'ct', download / 'copy')
    sources = [str(download), str(download / 'ct')]
    assert convert_lidc(sources, str(tmp_path / 'twice'), clean=9) == once
    assert rows_of(tmp_path / 'twice') == rows_of(tmp_path / 'once')
    write_slice(download / 'copy/001.dcm', '1.2.3', 1, 7.5, values(0))
    with pytest.raises(UserError, match='are both slice 1.2.3.1 and differ'):
        convert_lidc(sources, str(tmp_path / 'twice'))


def test_no_slice_at_the_place_of_a_nodule_is_clean(download, tmp_path):
    write_slice(download / 'ct/again.dcm', '1.2.3', 9, 0.0, values(2))
    convert_lidc([str(download)], str(tmp_path / 'lidc'), clean=9)
    clean = [r for r in rows_of(tmp_path / 'lidc') if r['is_clean'] == 'TRUE']
    assert [row['slice_no'] for row in clean] == ['0', '1', '5']


def test_the_data_set_reads_it(download, tmp_path, in_tmp):
    out = tmp_path / 'lidc'
    convert_lidc([str(download)], str(out), clean=2)
    rows = rows_of(out)
    data = DATASETS.build(
        dict(type='hkd_mm.LIDCNodule', data_root=str(out), split='all')
    )
    assert data.class_counts().tolist() == [2, 2] and len(rows) == 4
    assert data.get_data_info(0)['metadata']['pixel_spacing'] == '0.75'
    # without the table the folders say the same
    (out / 'split_dataset.csv').unlink()
    again = DATASETS.build(
        dict(type='hkd_mm.LIDCNodule', data_root=str(out), split='all')
    )
    for i in range(4):
        one, two = data.get_data_info(i), again.get_data_info(i)
        for name in ('img_path', 'mask_path', 'gt_label', 'patient_id'):
            assert one[name] == two[name]


def test_what_was_ended_halfway_is_not_read(download, tmp_path, monkeypatch):
    out = tmp_path / 'lidc'
    convert_lidc([str(download)], str(out))

    def ended(*unused):
        raise KeyboardInterrupt

    root = dict(type='hkd_mm.LIDCNodule', data_root=str(out), split='all')
    with monkeypatch.context() as patch:
        patch.setattr('hkd_mm.data_tools.convert_lidc.write_table', ended)
        with pytest.raises(KeyboardInterrupt):
            convert_lidc([str(download)], str(out), window=(-600, 400))
    with pytest.raises(UserError, match='incomplete: convert_lidc.py is writing'):
        DATASETS.build(root)
    convert_lidc([str(download)], str(out), window=(-600, 400))
    assert len(DATASETS.build(root)) == 2


def test_a_window(download, tmp_path):
    out = tmp_path / 'lidc'
    convert_lidc([str(download)], str(out), window=(-600, 400))
    row = rows_of(out)[0]
    found = read(out / 'Image' / 'P1' / f'{row["original_image"]}.png')
    want = np.clip((values(2) + 800) / 400, 0, 1) * 65535
    assert np.array_equal(found, np.rint(want))
    assert found.min() == 0 and found.max() == 65535


def test_slope_and_intercept_are_honoured(tmp_path):
    from hkd_mm.data_tools.lidc import read_hounsfield

    for slope in (1, 2):
        path = tmp_path / f'{slope}.dcm'
        write_slice(path, '1.2', 1, 0, values(0), slope)
        assert np.array_equal(read_hounsfield(str(path)), values(0))


def test_an_outline_is_placed_by_z_where_it_names_no_file(download, tmp_path):
    lines = [nodule(roi(5.0, box(4, 4, 9, 9)), malignancy=2)] * 1
    write_xml(download / 'xml' / 'a.xml', '1.2.3', lines, lines)
    convert_lidc([str(download)], str(tmp_path / 'lidc'))
    assert [row['slice_no'] for row in rows_of(tmp_path / 'lidc')] == ['4']


def test_share_of_the_readers(download, tmp_path):
    out = tmp_path / 'lidc'
    done = convert_lidc([str(download)], str(out), share=0.25)
    assert done['nodules'] == 2
    assert [row['slice_no'] for row in rows_of(out)] == ['2', '3', '5']
    # three of four: only slice 3 has as many
    convert_lidc([str(download)], str(out), share=0.75)
    assert [row['slice_no'] for row in rows_of(out)] == ['3']
    with pytest.raises(UserError, match='no nodule that readers share'):
        convert_lidc([str(download)], str(out), share=1)
    assert incomplete_marker(out) is None  # nothing was written over


def outline(points, inclusion=True, z=0.0):
    return Outline('', z, inclusion, np.array(points, np.int32))


def test_the_line_is_outside_of_the_nodule():
    mask = fill_outlines([outline(box(2, 3, 6, 6))], (10, 10))
    want = np.zeros((10, 10), bool)
    want[4:6, 3:6] = True  # rows 4..5, columns 3..5
    assert np.array_equal(mask, want)
    assert not fill_outlines([outline([(4, 4)])], (10, 10)).any()  # below 3 mm
    assert fill_outlines([outline(box(-3, -3, 4, 4))], (10, 10)).sum() == 16


def test_what_touches_is_one_nodule():
    """1 meets 2 and 2 meets 3; 4 lies elsewhere; reader 0 has two."""

    def one(reader, malignancy, left):
        lines = [outline(box(left, 2, left + 6, 8))]
        return Nodule(reader, malignancy, lines)

    nodules = [one(0, 5, 0), one(1, 2, 3), one(2, 2, 7), one(0, 1, 20)]
    readings = Readings('', '', 3, nodules)
    found = agreed_nodules(readings, lambda line: 0, (12, 32), share=0.3)
    assert [a.malignancy for a in found] == [2, 1]
    both = agreed_nodules(readings, lambda line: 0, (12, 32), share=0.6)
    assert len(both) == 1  # columns 4..5 of 1 and 2, column 8 of 2 and 3
    columns = np.flatnonzero(both[0].masks[0].any(0)).tolist()
    assert columns == [4, 5, 8]


def test_a_reader_has_one_vote():
    lines = [outline(box(2, 2, 8, 8))]
    readings = Readings('', '', 4, [Nodule(0, 3, lines), Nodule(0, 3, lines)])
    assert not agreed_nodules(readings, lambda line: 0, (12, 12))


def test_xml_by_hand(tmp_path):
    path = write_xml(
        tmp_path / 'a.xml',
        '7.7',
        [nodule(roi(-1.5, [(3, 4)], '9')), nodule(malignancy=2)],
        [],
    )
    found = read_outlines(path)
    assert (found.series_uid, found.readers) == ('7.7', 2)
    small, rated = found.nodules
    assert small.malignancy is None and rated.malignancy == 2
    line = small.outlines[0]
    assert (line.uid, line.z, line.inclusion) == ('9', -1.5, True)
    assert line.points.tolist() == [[3, 4]]


def test_outlines_without_their_slices_are_counted(download, tmp_path):
    (download / 'ct/003.dcm').unlink()  # slice 3, with four outlines
    done = convert_lidc([str(download)], str(tmp_path / 'lidc'))
    assert (done['lost'], done['slices']) == (4, 1)
    for number in (1, 4):  # slices 5 and 2
        (download / f'ct/00{number}.dcm').unlink()
    with pytest.raises(UserError, match='slices of all 7 outlines are miss'):
        convert_lidc([str(download)], str(tmp_path / 'lidc'))


def test_mistakes_in_one_line(download, tmp_path):
    out = str(tmp_path / 'lidc')
    with pytest.raises(UserError, match='does not exist'):
        convert_lidc([str(tmp_path / 'nowhere')], out)
    with pytest.raises(UserError, match='1 CT scans and 0 XML files'):
        convert_lidc([str(download / 'ct')], out)
    with pytest.raises(UserError, match='must lie in'):
        convert_lidc([str(download)], out, share=0)
    path = download / 'ct' / '001.dcm'
    path.write_bytes(b'cut off')
    with pytest.raises(UserError, match='001.dcm cannot be read'):
        convert_lidc([str(download)], out)
    path.unlink()
    (download / 'xml' / 'a.xml').write_text('<LidcReadMessage>')
    with pytest.raises(UserError, match='a.xml cannot be read'):
        convert_lidc([str(download)], out)


BILLION = ''.join(
    f'<!ENTITY a{i} "{f"&a{i - 1};" * 10 if i else "lol"}">' for i in range(9)
)


@pytest.mark.parametrize(
    ('text', 'reason'),
    [
        (f'<!DOCTYPE x [{BILLION}]><LidcReadMessage>&a8;</LidcReadMessage>', 'DOCTYPE'),
        ('<!DOCTYPE x SYSTEM "file:///etc/passwd"><LidcReadMessage/>', 'DOCTYPE'),
        (f'<LidcReadMessage>{nodule(roi(0, [(10**9, 1)]))}</LidcReadMessage>', ''),
        ('<LidcReadMessage>' * 100_000, 'no element found'),
        ('<?xml version="1.0" encoding="no-such"?><LidcReadMessage/>', 'encoding'),
        ('', 'no element found'),
    ],
)
@pytest.mark.parametrize('encoding', ['utf-8', 'utf-16'])
def test_hostile_xml_is_refused_in_one_line(tmp_path, text, reason, encoding):
    path = tmp_path / 'a.xml'
    session = '<LidcReadMessage><readingSession>'
    text = text.replace('<LidcReadMessage><unb', f'{session}<unb')
    text = text.replace('Nodule></Lidc', 'Nodule></readingSession></Lidc')
    path.write_bytes(text.encode(encoding))
    if encoding == 'utf-16':
        reason = ''
    with pytest.raises(UserError, match=f'a.xml cannot be read: .*{reason}') as error:
        read_outlines(path)
    assert '\n' not in str(error.value)


def test_xml_of_absurd_size_is_refused(tmp_path):
    path = write_xml(tmp_path / 'a.xml', '1', [nodule()] * 1001)
    with pytest.raises(UserError, match='more than 1000 nodules'):
        read_outlines(path)
    path.write_bytes(b'<a>' + b' ' * 2**24 + b'</a>')
    with pytest.raises(UserError, match='more than 16777216 bytes'):
        read_outlines(path)


@pytest.mark.parametrize(
    ('tag', 'value'),
    [
        ('Rows', 60_000),
        ('Columns', 0),
        ('ImagePositionPatient', [0, 0, 'nan']),
        ('ImagePositionPatient', [0]),
        ('ImageOrientationPatient', [1, 0]),
        ('SOPInstanceUID', None),
        ('RescaleSlope', 'inf'),
        ('RescaleIntercept', ''),
        ('PixelData', b'short'),
        ('NumberOfFrames', 5),
    ],
)
def test_damaged_slices_are_named(download, tmp_path, tag, value):
    pydicom = pytest.importorskip('pydicom')
    path = download / 'ct/004.dcm'  # slice 2
    data = pydicom.dcmread(path)
    with pydicom.config.disable_value_validation():
        if value is None:
            delattr(data, tag)
        else:
            setattr(data, tag, value)
        data.save_as(path)
    with pytest.raises(UserError, match='004.dcm.* cannot be read') as error:
        convert_lidc([str(download)], str(tmp_path / 'lidc'))
    assert '\n' not in str(error.value)


def test_slices_cut_anywhere_are_named(download, tmp_path):
    path = download / 'ct/004.dcm'
    whole = path.read_bytes()
    for size in (*range(0, len(whole), 137), len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(UserError) as error:
            convert_lidc([str(download)], str(tmp_path / 'lidc'), workers=1)
        assert '\n' not in str(error.value)


@pytest.mark.parametrize('patient', ['..', '../../x', '', '/etc', '.hidden', 'x' * 300])
def test_a_patient_is_a_folder_of_the_output(download, tmp_path, patient):
    pydicom = pytest.importorskip('pydicom')
    for path in (download / 'ct').glob('*.dcm'):
        data = pydicom.dcmread(path)
        with pydicom.config.disable_value_validation():
            data.PatientID = patient
            data.save_as(path)
    out = tmp_path / 'lidc'
    assert convert_lidc([str(download)], str(out))['slices'] == 2
    (folder,) = (out / 'Image').iterdir()
    assert len(list(folder.iterdir())) == 2 and not folder.name.startswith('.')
    assert sorted(p.name for p in tmp_path.iterdir()) == ['download', 'lidc']


@pytest.mark.parametrize(
    'words', [dict(window=(0, float('inf'))), dict(window=(float('nan'), 1)),
              dict(clean=-1), dict(share=float('nan')), dict(workers=100_000)]
)  # fmt: skip
def test_absurd_numbers_are_refused(download, tmp_path, words):
    with pytest.raises(UserError, match='--(window|clean|consensus|workers) .*must'):
        convert_lidc([str(download)], str(tmp_path / 'lidc'), **words)


def test_two_scans_of_a_patient(download, tmp_path):
    for n in range(3):
        path = download / 'more' / f'{n}.dcm'
        write_slice(path, '1.2.4', n, float(n), values(n))
    both = [nodule(roi(1.0, box(4, 4, 9, 9)))]
    write_xml(download / 'more' / 'c.xml', '1.2.4', both, both)
    out = tmp_path / 'lidc'
    assert convert_lidc([str(download)], str(out))['patients'] == 1
    names = [row['original_image'] for row in rows_of(out)]
    assert names == [
        'P1_scan0_slice0002',
        'P1_scan0_slice0003',
        'P1_scan1_slice0001',
    ]
    assert rows_of(out)[2]['malignancy'] == ''


def test_the_tool(download, tmp_path, tool, capsys):
    main = tool('data/convert_lidc')
    out = str(tmp_path / 'lidc')
    assert main([str(download), '--out', out, '--clean', '1']) == 0
    said = capsys.readouterr().out
    assert '3 slices of 1 patients' in said and 'left out' not in said
    assert 'data_preprocessor.window=[424,1500]' in said
    (download / 'ct/003.dcm').unlink()  # slice 3, with four outlines
    window = ['--window', '-600', '1500']
    assert main([str(download), '--out', out, *window]) == 0
    said = capsys.readouterr().out
    assert 'data_preprocessor.window=None' in said
    assert '4 outlines were left out' in said
    assert main([str(tmp_path / 'nowhere'), '--out', out]) == 2
    assert 'error:' in capsys.readouterr().err
