# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Downloads as people and programs pack them: each is read right or refused."""

import io
import os
import tarfile
import unicodedata
import zipfile
from contextlib import ExitStack
from pathlib import Path

import pytest

from hkd_mm.data_tools.convert import convert_folders, convert_official
from hkd_mm.data_tools.downloads import list_downloads
from hkd_mm.errors import UserError


def listed(*sources, out='out'):
    """Name -> content of every entry."""
    with ExitStack() as stack:
        entries, _ = list_downloads([str(s) for s in sources], str(out), stack)
        found = {str(entry.name): entry.path.read_bytes() for entry in entries}
        assert len(found) == len(entries)
    return found


def zipped(path, files, **options):
    with zipfile.ZipFile(path, 'w', **options) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def tarred(path, files, mode='w'):
    with tarfile.open(path, mode) as archive:
        for name, content in files.items():
            info = content
            if isinstance(content, bytes):
                info = tarfile.TarInfo(name)
                info.size = len(content)
            info.name = name
            data = io.BytesIO(content) if isinstance(content, bytes) else None
            archive.addfile(info, data)
    return path


def special(kind, target=''):
    info = tarfile.TarInfo()
    info.type, info.linkname = kind, target
    return info


def renamed(path, old, new):
    """Give an entry of a zip archive other bytes as its name."""
    assert len(old) == len(new)
    path.write_bytes(path.read_bytes().replace(old, new))
    return path


FILES = {'A/1.jpg': b'one', 'B/2.png': b'two', 't.csv': b'image,label'}


@pytest.fixture(autouse=True)
def _work(in_tmp):
    pass


@pytest.mark.parametrize('end', ['tar', 'tar.gz', 'tgz', 'tar.bz2', 'tar.xz', 'TAR.GZ'])
def test_tar_archives(end):
    mode = {'gz': 'w:gz', 'tgz': 'w:gz', 'bz2': 'w:bz2', 'xz': 'w:xz'}
    path = tarred(Path(f'x.{end}'), FILES, mode.get(end.lower().split('.')[-1], 'w'))
    assert listed(path) == FILES
    assert os.listdir('out') == []  # what was unpacked is gone


def test_archives_within_archives():
    inner = zipped(Path('i.zip'), FILES).read_bytes()
    middle = tarred(Path('m.tar.gz'), {'x/i.zip': inner}, 'w:gz').read_bytes()
    outer = zipped(Path('o.zip'), {'m.tgz': middle, 'C/3.jpg': b'three'})
    assert listed(outer) == {**FILES, 'C/3.jpg': b'three'}
    os.mkdir('get')
    outer.rename('get/o.zip')
    assert listed('get') == {**FILES, 'C/3.jpg': b'three'}


@pytest.mark.parametrize('end', ['tar.gz', 'tar.bz2', 'tar.xz', 'tgz'])
def test_archives_within_archives_keep_their_endings(end):
    mode = {'tar.gz': 'w:gz', 'tgz': 'w:gz', 'tar.bz2': 'w:bz2', 'tar.xz': 'w:xz'}
    inner = tarred(Path(f'i.{end}'), FILES, mode[end]).read_bytes()
    outer = zipped(Path('o.zip'), {f'x/set.{end}': inner})
    assert listed(outer) == FILES


def test_a_link_to_nothing_costs_no_archive():
    path = tarred(Path('x.tar'), FILES)
    with tarfile.open(path, 'a') as archive:
        link = tarfile.TarInfo('.README')
        link.type, link.linkname = tarfile.SYMTYPE, 'nowhere'
        archive.addfile(link)
    assert listed(path) == FILES


def test_endless_archives_are_refused():
    path = zipped(Path('0.zip'), FILES)
    for number in range(1, 8):
        path = zipped(Path(f'{number}.zip'), {'next.zip': path.read_bytes()})
    with pytest.raises(UserError, match='more than 5 archives within each other'):
        listed(path)


def test_backslashes_are_separators():
    path = zipped(Path('x.zip'), {'set\\A\\1.jpg': b'1', 'set\\B\\': b''})
    assert listed(path) == {'set/A/1.jpg': b'1'}


@pytest.mark.parametrize(
    ('raw', 'name'),
    [
        ('Ekzém'.encode(), 'Ekzém'),  # without the mark for UTF-8
        ('Ekzém'.encode('cp437'), 'Ekzém'),
        ('Ekzém'.encode('cp1252'), 'Ekzém'),
        ('Fuß Ä'.encode('cp1252'), 'Fuß Ä'),
        ('Fuß ö'.encode('cp437'), 'Fuß ö'),
        (unicodedata.normalize('NFD', 'Ekzém').encode(), 'Ekzém'),
    ],
)
def test_names_of_any_coding(raw, name):
    plain = b'x' * len(raw)
    path = zipped(Path('x.zip'), {f'{plain.decode()}/1.jpg': b'1'})
    assert listed(renamed(path, plain, raw)) == {f'{name}/1.jpg': b'1'}
    path = tarred(Path('x.tar'), {f'{os.fsdecode(raw)}/1.jpg': b'1'})
    assert listed(path) == {f'{name}/1.jpg': b'1'}
    folder = Path('get', os.fsdecode(raw))
    folder.mkdir(parents=True)
    (folder / '1.jpg').write_bytes(b'1')
    assert listed('get') == {f'{name}/1.jpg': b'1'}


def test_names_that_no_table_can_hold(write_image):
    long = 'x' * 246 + '.png'
    names = ['a\nb.png', 'tab\t.png', ' c.png', '=1.png', "'=1.png", long]
    for seed, name in enumerate([*names, os.fsdecode(b'caf\xe9.png')]):
        write_image(Path('get', os.fsdecode(b'=\xe9 '), name), seed)
        write_image(Path('get/B', name), 10 + seed)
    assert convert_folders(['get'], 'set')['images'] == 14
    from hkd_mm.datasets import SkinDisease

    data = SkinDisease('set', 'all')
    assert data.classes == ('=é', 'B')
    assert sorted(i['sample_id'] for i in data if i['gt_label'] == 1) == sorted(
        f'B/{n}' for n in ('a_b.png', 'tab_.png', 'c.png', *names[3:], 'café.png')
    )


def test_what_systems_add_is_left_out():
    more = ['@eaDir/A/1.jpg/SYNOPHOTO_THUMB_M.jpg', '__MACOSX/A/._1.jpg', 'A/._1.jpg']
    more += ['originals/A/1.jpg', '.git/A/1.jpg', '#recycle/1.jpg']
    files = FILES | dict.fromkeys(more, b'x')
    assert listed(zipped(Path('x.zip'), files)) == FILES
    assert listed(tarred(Path('x.tar'), files)) == FILES


@pytest.mark.parametrize(
    'name', ['../A/1.jpg', 'A/../../1.jpg', '/tmp/A/1.jpg', 'C:\\A\\1.jpg', '..\\1.jpg']
)
def test_no_archive_leads_out_of_itself(name):
    for path in (
        zipped(Path('x.zip'), {name: b'1'}),
        tarred(Path('x.tar'), {name: b'1'}),
    ):
        with pytest.raises(UserError, match='which leads out of it'):
            listed(path)
    assert sorted(os.listdir()) == ['out', 'x.tar', 'x.zip']


@pytest.mark.parametrize('kind', [tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_devices_are_refused(kind):
    with pytest.raises(UserError, match='A/1.jpg, which is no file'):
        listed(tarred(Path('x.tar'), {'A/1.jpg': special(kind)}))


def test_links_lead_to_files_of_the_archive():
    hard, soft = tarfile.LNKTYPE, tarfile.SYMTYPE
    files = {'A/1.jpg': b'1', 'A/2.jpg': special(hard, 'A/1.jpg')}
    path = tarred(
        Path('x.tgz'), files | {'B/3.jpg': special(soft, '../A/1.jpg')}, 'w:gz'
    )
    assert listed(path) == {'A/1.jpg': b'1', 'A/2.jpg': b'1', 'B/3.jpg': b'1'}
    for kind, target in (
        (soft, '/etc/passwd'),
        (hard, '/etc/passwd'),
        (soft, '../../x'),
    ):
        with pytest.raises(UserError, match='x.tar holds A.1.jpg, which is no file'):
            listed(tarred(Path('x.tar'), {'A/1.jpg': special(kind, target)}))
    info = zipfile.ZipInfo('A/1.jpg')
    info.external_attr = 0o120777 << 16
    with pytest.raises(UserError, match='A/1.jpg, which is a link'):
        listed(zipped(Path('x.zip'), {info: '/etc/passwd'}))


def test_bombs_are_refused_before_they_unpack(monkeypatch):
    monkeypatch.setattr('hkd_mm.data_tools.downloads._SMALL', 2**20)
    zeros = bytes(2**23)
    deflated = dict(compression=zipfile.ZIP_DEFLATED)
    bomb = zipped(Path('x.zip'), {'A/1.png': zeros}, **deflated)
    with pytest.raises(UserError, match='x.zip unpacks to more than 1 MB'):
        listed(bomb)
    inner = {f'{i}.zip': bomb.read_bytes() for i in range(3)}
    with pytest.raises(UserError, match='unpacks to more than'):
        listed(zipped(Path('y.zip'), inner, **deflated))
    with pytest.raises(UserError, match='unpacks to more than'):
        listed(tarred(Path('x.tgz'), {'A/1.png': zeros}, 'w:gz'))
    monkeypatch.setattr('hkd_mm.data_tools.downloads._MOST', 2)
    links = {f'{i}.png': special(tarfile.LNKTYPE, 'A.png') for i in range(9)}
    with pytest.raises(UserError, match='unpacks to more than'):
        listed(tarred(Path('x.tar'), {'A.png': bytes(2**19), **links}, 'w'))


def test_encrypted_archives_are_refused():
    path = zipped(Path('x.zip'), {'A/1.jpg': b'1'})
    data = bytearray(path.read_bytes())
    for mark, at in ((b'PK\x03\x04', 6), (b'PK\x01\x02', 8)):
        data[data.index(mark) + at] |= 1
    path.write_bytes(data)
    with pytest.raises(UserError, match='which is encrypted; unpack it yourself'):
        listed(path)


@pytest.mark.parametrize('end', ['zip', 'tar', 'tar.gz', 'tar.bz2', 'tar.xz'])
def test_archives_cut_anywhere_are_refused(end):
    files = {f'A/{i}.jpg': os.urandom(700) for i in range(4)}
    mode = {'gz': 'w:gz', 'bz2': 'w:bz2', 'xz': 'w:xz'}.get(end[4:], 'w')
    path = Path(f'x.{end}')
    (zipped if end == 'zip' else tarred)(path, files, *[mode][: end != 'zip'])
    whole = path.read_bytes()
    last = 4 * (512 + 1024) if end == 'tar' else len(whole) - 1
    for size in (*range(0, last, 97), 512, 1536, last):
        path.write_bytes(whole[:size])
        with pytest.raises(UserError, match='is damaged') as error:
            listed(path)
        assert '\n' not in str(error.value)


def test_damaged_content_is_named():
    path = zipped(Path('x.zip'), {'A/1.jpg': b'content'})
    path.write_bytes(path.read_bytes().replace(b'content', b'c0ntent'))
    with pytest.raises(UserError, match='x.zip is damaged .*CRC'):
        listed(path)


def test_other_archives_and_pipes_are_refused():
    Path('x.7z').write_bytes(b'7z')
    with pytest.raises(UserError, match='x.7z cannot be unpacked here'):
        listed('x.7z')
    os.mkfifo('pipe')
    for source in ('pipe', '/dev/zero', '/proc/self/environ', '/proc', '/sys'):
        with pytest.raises(UserError, match=f'{source} is no folder or file of data'):
            listed(source)
    with pytest.raises(UserError, match='does not exist'):
        listed('x' * 5000)


def test_a_link_into_another_class_is_refused(write_image):
    for i in range(4):
        write_image(f'get/{"AB"[i % 2]}/{i}.png', i)
    os.symlink('.', 'get/A/again')
    assert convert_folders(['get'], 'out')['counts'] == dict(A=2, B=2)
    os.symlink('../B', 'get/A/more')
    with pytest.raises(UserError, match='get/B is read twice, as a link leads there'):
        convert_folders(['get'], 'out2')


def test_linked_class_folders_are_read_once(write_image):
    write_image('elsewhere/1.png', 1)
    write_image('get/A/2.png', 2)
    os.symlink('../elsewhere', 'get/B')
    os.symlink('.', 'get/loop')
    assert [*listed('get')] == ['A/2.png', 'B/1.png']


def test_the_output_is_no_source(write_image):
    write_image('get/A/1.png', 1)
    write_image('get/B/1.png', 2)
    for out in ('get', 'get/out', 'get/A/../deep/out'):
        with pytest.raises(UserError, match='is inside of get'):
            convert_folders(['get'], out)
    convert_folders(['get'], 'set')
    os.symlink('../set', 'get/C')
    with pytest.raises(UserError, match='get/C links to --out set'):
        convert_folders(['get'], 'set')
    os.unlink('get/C')
    os.rename('get', 'set/download')  # beside what is written
    assert convert_folders(['set/download'], 'set')['images'] == 2


def test_the_same_file_from_two_places_is_one(write_image):
    write_image('get/A/1.png', 1)
    write_image('get/B/1.png', 2)
    with zipfile.ZipFile('get/x.zip', 'w') as archive:
        archive.write('get/A/1.png', 'A/1.png')
        archive.write('get/B/1.png', 'A/2.png')
    assert convert_folders(['get', 'get'], 'set')['counts'] == dict(A=2, B=1)


def test_what_is_no_image_is_counted(write_image):
    write_image('get/A/1.png', 1)
    write_image('get/B/1.png', 2)
    write_image('get/3.png', 2)
    for name in ('A/1.DCM', 'A/2.dcm', 'B/x.gif'):
        Path('get', name).write_bytes(b'x')
    assert convert_folders(['get'], 'set')['skipped'] == {
        '.dcm': 2, '.gif': 1, '.png outside of class folders': 1
    }  # fmt: skip
    with pytest.raises(UserError, match='no class folders with images, but 1 .gif'):
        Path('only/A').mkdir(parents=True)
        Path('only/A/1.gif').write_bytes(b'x')
        convert_folders(['only'], 'set2')


@pytest.mark.parametrize('new', ['../x', 'a/b', '.x', 'originals', ' x', 'a\nb'])
def test_classes_are_renamed_to_plain_names(write_image, new):
    write_image('get/A/1.png', 1)
    with pytest.raises(UserError, match='write a plain one'):
        convert_folders(['get'], 'set', {'A': new})


def test_a_table_names_no_place_outside(write_image):
    classes = ('akiec', 'bcc', 'bkl', 'df', 'mel', 'nv', 'vasc')
    names = [f'../../{n}' if n == 3 else str(n) for n in range(7)]
    rows = [f'{name},{label}' for name, label in zip(names, classes)]
    for number in range(7):
        write_image(f'get/{number}.jpg', number)
    Path('get/HAM10000_metadata.csv').write_text('\n'.join(['image_id,dx', *rows]))
    with pytest.raises(UserError, match="lists image '../../3'; write its name"):
        convert_official('HAM10000', ['get'], 'deep/set')
    assert not Path('3.jpg').exists()
    rows[3] = '3,df'
    Path('get/HAM10000_metadata.csv').write_text('\n'.join(['file,sort', *rows]))
    words = dict(image_col='file', label_col='sort')
    assert convert_official('HAM10000', ['get'], 'deep/set', **words)['images'] == 7


def test_an_output_that_is_a_file_is_refused(write_image, tool, capsys):
    write_image('get/A/1.png', 1)
    Path('out').write_text('x')
    for name, *words in (
        ('convert_class_folders', 'get'),
        ('convert_ham10000', 'get'),
        ('convert_lidc', 'get'),
        ('resize_images', 'get', '--size', '8'),
        ('make_demo_images',),
        ('make_demo_slices',),
    ):
        assert tool(f'data/{name}')([*words, '--out', 'out']) == 2
        assert capsys.readouterr().err == (
            'error: --out out is no folder; name another place with --out\n'
        )
