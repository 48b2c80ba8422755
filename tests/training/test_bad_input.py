# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Each mistake of a user: one line on stderr, exit code 2, no traceback."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny import TINY_CLASSES, make_class_folders, write_tiny_configs

ROOT = Path(__file__).parents[2]
OPTIONS = '--cfg-options'


class Bomb:
    """A pickle of this runs code: it makes a file."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, 'w')


class Place:
    """What a row of the table may use and change."""

    def __init__(self, folder: Path, data: Path, configs: dict, patch):
        self.folder, self.data, self.configs = folder, data, configs
        self.patch = patch

    def own_data(self, classes=TINY_CLASSES, root='own', **kwargs) -> Path:
        return make_class_folders(self.folder / root, classes, **kwargs)

    def train(self, *options, config='student', flags=()) -> list[str]:
        argv = [str(self.configs[config]), *flags]
        return ['train', *argv, *([OPTIONS, *options] if options else [])]

    def test(self, checkpoint, *options, config='student') -> list[str]:
        argv = ['test', str(self.configs[config]), str(checkpoint)]
        return argv + ([OPTIONS, *options] if options else [])

    def checkpoint(
        self, config: str, classes=TINY_CLASSES, name='network.pth', meta=()
    ) -> Path:
        """Random weights of a config's network, as mmengine stores them."""
        from mmpretrain.registry import MODELS

        from hkd_mm.config.compose import load_config

        cfg = load_config(self.configs[config], {'classes': list(classes)})
        network = MODELS.build(cfg.model)
        torch.save(
            dict(meta=dict(meta), state_dict=network.state_dict()),
            self.folder / name,
        )
        return self.folder / name

    def table(self, text: str) -> Path:
        root = self.own_data()
        (root / 'annotations.csv').write_text(text)
        return root

    def spoil(self, content: bytes) -> Path:
        root = self.own_data()
        for path in root.glob('*/*_0[0-9].png'):
            path.write_bytes(content)
        return root


def _empty(p):
    (p.folder / 'empty').mkdir()
    return p.train(f'data_root={p.folder}/empty')


def _one_class(p):
    rows = ['image,label,split', 'acne_00,Acne,train', 'acne_01,Acne,train']
    rows += [
        f'{name.lower()}_0{part == "test":d},{name},{part}'
        for name in TINY_CLASSES[1:]
        for part in ('val', 'test')
    ]
    return p.train('data_root=' + str(p.table('\n'.join(rows) + '\n')))


def _truncated(p):
    image = next(p.data.glob('*/*.png')).read_bytes()
    return p.train(f'data_root={p.spoil(image[:300])}')


def _unreadable_in_worker(p):
    return p.train(
        f'data_root={p.spoil(b"no image at all")}',
        'train_dataloader.num_workers=1',
    )


def _bomb(p, name='bomb.pth'):
    torch.save(
        dict(state_dict=dict(), meta=Bomb(p.folder / 'exploded')),
        p.folder / name,
    )
    return p.folder / name


def _corrupt(p):
    path = p.checkpoint('student')
    path.write_bytes(path.read_bytes()[:-2000])
    return p.test(path)


def _full_disk(p):
    upstream = os.fsync

    def full(handle):
        if 'epoch_1.pth' in os.readlink(f'/proc/self/fd/{handle}'):
            reason = os.strerror(errno.ENOSPC)
            raise OSError(errno.ENOSPC, reason, 'epoch_1.pth')
        upstream(handle)

    p.patch.setattr('hkd_mm.io.atomic_files.os.fsync', full)
    return p.train()


def _no_gpu(p, *args, **kwargs):
    p.patch.setattr('torch.cuda.is_available', lambda: False)
    return p.train(*args, **kwargs)


def _broken_config(p):
    p.configs['student'].write_text('model = dict(\n')
    return p.train()


def _two_networks(p):
    return p.train(f'model.teacher_ckpt={p.checkpoint("student")}', config='kd')


def _teacher_classes(p):
    path = p.checkpoint('teacher', [*TINY_CLASSES, 'Pigment'])
    return p.train(f'model.teacher_ckpt={path}', config='kd')


def _teacher_in_another_order(p):
    path = p.checkpoint('teacher', meta=_OF_A_STUDENT)
    return p.train(f'model.teacher_ckpt={path}', config='kd')


def _out_is_a_folder(p):
    (p.folder / 'x.json').mkdir()
    return [*p.test(p.checkpoint('student')), '--out', 'x.json']


_ORDER = ['Eczema', 'Benign', 'Acne']
_OF_A_RUN = dict(dataset_meta=dict(classes=_ORDER))
_OF_A_STUDENT = dict(classes=_ORDER)  # as in student.pth
_OF_A_SPLIT = dict(split_hash='f' * 64)


LOSS = 'model.distiller.distill_losses.loss_hybrid'

# what is wrong: (argv from a Place, words that the line must hold)
MISTAKES = {
    'data root missing': (
        lambda p: p.train('data_root=/no/such'),
        ['/no/such', 'data_root='],
    ),
    'data root empty': (_empty, ['empty', 'data_root=']),
    'class folder missing': (
        lambda p: p.train(f'data_root={p.own_data(TINY_CLASSES[:2])}'),
        ['Eczema', 'own'],
    ),
    'class folder unknown': (
        lambda p: p.train(f'data_root={p.own_data([*TINY_CLASSES, "Odd"])}'),
        ['Odd', 'classes'],
    ),
    'table without the column': (
        lambda p: p.train(
            'data_root=' + str(p.table('image,diagnosis\nacne_00,Acne\n'))
        ),
        ['annotations.csv', '"label"'],
    ),
    'label outside the classes': (
        lambda p: p.train(
            'data_root=' + str(p.table('image,label\nacne_00,Acne\nacne_01,Wart\n'))
        ),
        ['Wart'],
    ),
    'image unreadable': (
        lambda p: p.train(f'data_root={p.spoil(b"no image at all")}'),
        ['.png'],
    ),
    'image unreadable in a worker': (_unreadable_in_worker, ['.png']),
    'image truncated': (_truncated, ['.png']),
    'image of zero bytes': (
        lambda p: p.train(f'data_root={p.spoil(b"")}'),
        ['.png'],
    ),
    'one class in the training split': (_one_class, ['training split']),
    'checkpoint missing, test': (
        lambda p: p.test('gone.pth'),
        ['gone.pth', 'exist'],
    ),
    'checkpoint missing, resume': (
        lambda p: p.train(flags=['--resume', 'gone.pth']),
        ['gone.pth'],
    ),
    'checkpoint missing, load_from': (
        lambda p: p.train('load_from=gone.pth'),
        ['gone.pth'],
    ),
    'checkpoint missing, teacher': (
        lambda p: p.train('model.teacher_ckpt=gone.pth', config='kd'),
        ['gone.pth'],
    ),
    'checkpoint of another network, test': (
        lambda p: p.test(p.checkpoint('teacher')),
        ['network.pth', 'fit'],
    ),
    'checkpoint of another network, load_from': (
        lambda p: p.train(f'load_from={p.checkpoint("teacher")}'),
        ['network.pth', 'fit'],
    ),
    'checkpoint of another network, teacher': (
        _two_networks,
        ['network.pth', 'teacher'],
    ),
    'checkpoint with weights only, resume': (
        lambda p: p.train(flags=['--resume', str(p.checkpoint('student'))]),
        ['network.pth', 'load_from'],
    ),
    'checkpoint of another class count, test': (
        lambda p: p.test(p.checkpoint('student', [*TINY_CLASSES, 'Pigment'])),
        ['4 classes', '3'],
    ),
    'checkpoint of another class count, teacher': (
        _teacher_classes,
        ['4 classes', '3'],
    ),
    'checkpoint of the classes in another order': (
        lambda p: p.test(p.checkpoint('student', meta=_OF_A_RUN)),
        ['network.pth', 'Eczema, Benign, Acne'],
    ),
    'student.pth of the classes in another order': (
        lambda p: p.test(p.checkpoint('student', meta=_OF_A_STUDENT)),
        ['network.pth', 'Eczema, Benign, Acne'],
    ),
    'teacher of the classes in another order': (
        _teacher_in_another_order,
        ['network.pth', 'Eczema, Benign, Acne'],
    ),
    'checkpoint of another split': (
        lambda p: p.test(p.checkpoint('student', meta=_OF_A_SPLIT)),
        ['network.pth', 'ffffffff', '--cfg-options', 'folder of the run'],
    ),
    'checkpoint corrupt': (_corrupt, ['network.pth', 'damaged']),
    'pickle runs code, test': (lambda p: p.test(_bomb(p)), ['bomb.pth']),
    'pickle runs code, resume': (
        lambda p: p.train(flags=['--resume', str(_bomb(p))]),
        ['bomb.pth'],
    ),
    'pickle runs code, load_from': (
        lambda p: p.train(f'load_from={_bomb(p)}'),
        ['bomb.pth'],
    ),
    'pickle runs code, teacher': (
        lambda p: p.train(f'model.teacher_ckpt={_bomb(p)}', config='kd'),
        ['bomb.pth'],
    ),
    'unknown key': (
        lambda p: p.train('data_roott=x'),
        ['data_roott', 'data_root'],
    ),
    'unknown key, deep': (
        lambda p: p.train(f'{LOSS}.tua=2', config='kd'),
        [f'{LOSS}.tua', f'{LOSS}.tau'],
    ),
    'value of the wrong kind': (
        lambda p: p.train('optim_wrapper.optimizer.lr=fast'),
        ['optim_wrapper.optimizer.lr', 'number'],
    ),
    'alpha above one': (
        lambda p: p.train(f'{LOSS}.alpha=1.5', config='kd'),
        ['alpha'],
    ),
    'alpha below zero': (
        lambda p: p.train(f'{LOSS}.alpha=-0.1', config='kd'),
        ['alpha'],
    ),
    'tau zero': (lambda p: p.train(f'{LOSS}.tau=0', config='kd'), ['tau']),
    'tau negative': (
        lambda p: p.train(f'{LOSS}.tau=-4', config='kd'),
        ['tau'],
    ),
    'class weights of another number': (
        lambda p: p.train('class_weight=[1,2]'),
        ['class_weight=[1, 2]', '3 classes'],
    ),
    'optimizer unknown': (
        lambda p: p.train('optim_wrapper.optimizer.type=SDG'),
        ['optim_wrapper.optimizer', 'SDG'],
    ),
    'learning rate below zero': (
        lambda p: p.train('optim_wrapper.optimizer.lr=-1'),
        ['optim_wrapper.optimizer', '-1'],
    ),
    'seed below zero': (lambda p: p.train('seed=-1'), ['seed=-1']),
    'seed below zero, deep': (
        lambda p: p.train('randomness.seed=-1'),
        ['randomness.seed', '-1'],
    ),
    'seed of the split below zero': (
        lambda p: p.train('split_seed=-1'),
        ['split_seed=-1'],
    ),
    'workers below zero': (
        lambda p: p.train('train_dataloader.num_workers=-1'),
        ['train_dataloader.num_workers', '-1'],
    ),
    'workers below zero, test': (
        lambda p: p.test('network.pth', 'test_dataloader.num_workers=-1'),
        ['test_dataloader.num_workers', '-1'],
    ),
    'workers that stay, of none': (
        lambda p: p.train('train_dataloader.persistent_workers=True'),
        ['train_dataloader.num_workers'],
    ),
    'best by no metric': (
        lambda p: p.train('default_hooks.checkpoint.save_best=accuracy'),
        ['save_best=accuracy', 'balanced_accuracy'],
    ),
    'amp of the config where there is no GPU': (
        lambda p: _no_gpu(p, 'optim_wrapper.type=AmpOptimWrapper'),
        ['AmpOptimWrapper', 'GPU'],
    ),
    'results into a folder': (_out_is_a_folder, ['x.json', 'folder']),
    'results under a long name': (
        lambda p: [*p.test(p.checkpoint('student')), '--out', 'x' * 250 + '.json'],
        ['--out', '230 bytes'],
    ),
    'results under a file': (
        lambda p: [*p.test(p.checkpoint('student')), '--out', 'tiny_kd.py/x.json'],
        ['tiny_kd.py is a file', '--out'],
    ),
    'results where nothing can be': (
        lambda p: [*p.test(p.checkpoint('student')), '--out', '/proc/no/x.json'],
        ['/proc/no', '--out'],
    ),
    'work dir where nothing can be': (
        lambda p: p.train(flags=['--work-dir', '/proc/no']),
        ['/proc/no', '--work-dir'],
    ),
    'network whose parts do not fit': (
        lambda p: p.train('model.head.in_channels=9'),
        ['first step'],
    ),
    'argument that nothing takes': (
        lambda p: p.train('custom_hooks.0.type=EMAHook', 'custom_hooks.0.momentun=1'),
        ['custom_hooks.0', 'momentun'],
    ),
    'teacher inference misspelt': (
        lambda p: p.train('model.teacher_inference.fold_bm=True', config='kd'),
        ['teacher_inference', 'fold_bm', 'fold_bn'],
    ),
    'teacher inference of no kind': (
        lambda p: p.train('model.teacher_inference.fold_bn=yes', config='kd'),
        ['teacher_inference', 'fold_bn', 'boolean'],
    ),
    'teacher inference as a switch': (
        lambda p: p.train('model.teacher_inference=True', config='kd'),
        ['teacher_inference', 'fold_bn'],
    ),
    'teacher in an unknown precision': (
        lambda p: p.train('model.teacher_inference.dtype=bf16', config='kd'),
        ['teacher_inference.dtype', 'bfloat16'],
    ),
    'teacher cache misspelt': (
        lambda p: p.train('model.teacher_cache.num_view=3', config='kd'),
        ['teacher_cache', 'num_view', 'num_views'],
    ),
    'teacher cache of no kind': (
        lambda p: p.train('model.teacher_cache.num_views=many', config='kd'),
        ['teacher_cache.num_views', 'number >= 1'],
    ),
    'beta below zero': (
        lambda p: p.train(f'{LOSS}.beta=-1', config='kd'),
        ['beta'],
    ),
    'loss unknown': (
        lambda p: p.train(f'{LOSS}.type=hkd_mm.HybridLoss', config='kd'),
        ['HybridLoss', 'registered'],
    ),
    'batch larger than the split': (
        lambda p: p.train('batch_size=19'),
        ['batch_size=19', '18'],
    ),
    'GPU where there is none': (
        lambda p: _no_gpu(p, 'device=cuda'),
        ['device=cuda'],
    ),
    'amp where there is no GPU': (
        lambda p: _no_gpu(p, flags=['--amp']),
        ['--amp', 'GPU'],
    ),
    'launcher without its environment': (
        lambda p: p.train(flags=['--launcher', 'pytorch']),
        ['dist_train.sh'],
    ),
    'disk full': (_full_disk, ['disk is full', 'epoch_1.pth']),
    'config missing': (
        lambda p: ['train', 'configs/no_such.py'],
        ['no_such.py'],
    ),
    'config broken': (_broken_config, ['tiny_student.py']),
    'results of no known kind': (
        lambda p: [*p.test(p.checkpoint('student')), '--out', 'x.txt'],
        ['x.txt', '.json'],
    ),
}


@pytest.fixture
def place(tiny_data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    configs = write_tiny_configs(tmp_path, tiny_data)
    return Place(tmp_path, tiny_data, configs, monkeypatch)


def _is_one_line(err: str, words: list[str]) -> None:
    lines = [line for line in err.splitlines() if line.startswith('error: ')]
    assert len(lines) == 1, err
    assert err.rstrip().endswith(lines[0]), err
    assert 'Traceback' not in err
    assert all(word in lines[0] for word in words), lines[0]


@pytest.mark.parametrize('mistake', MISTAKES)
def test_mistake_gets_one_line_and_code_2(mistake, place, tool, quick_runner, capsys):
    build, words = MISTAKES[mistake]
    name, *argv = build(place)
    capsys.readouterr()
    assert tool(name)(argv) == 2
    _is_one_line(capsys.readouterr().err, words)
    assert not (place.folder / 'exploded').exists()
    # nor was a teacher trained before it was told
    assert not [*place.folder.glob('**/tiny_teacher/*.pth')]


def test_real_process_says_the_same(place):
    build, words = MISTAKES['image unreadable in a worker']
    name, *argv = build(place)
    done = subprocess.run(
        [
            sys.executable,
            '-W',
            'ignore',
            str(ROOT / 'tools' / f'{name}.py'),
            *argv,
        ],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, 'OMP_NUM_THREADS': '1'},
    )
    assert done.returncode == 2
    _is_one_line(done.stderr, words)


def test_defects_of_ours_keep_their_traceback():
    from hkd_mm.cli import run_tool

    def defect():
        raise ZeroDivisionError('ours')

    with pytest.raises(ZeroDivisionError):
        run_tool(defect)


def test_user_error_is_found_behind_other_exceptions():
    from hkd_mm.cli import user_line
    from hkd_mm.errors import UserError

    try:
        try:
            raise UserError('tau=0 must be > 0')
        except UserError as error:
            raise RuntimeError('building failed') from error
    except RuntimeError as error:
        assert user_line(error) == 'tau=0 must be > 0'
    wrapped = UserError('class `HybridKDLoss` in hkd_mm/models/x.py: tau=0')
    assert user_line(wrapped) == 'tau=0'
    worker = RuntimeError(
        'Caught UserError in DataLoader worker process 0.\n'
        'Original Traceback (most recent call last):\n'
        'hkd_mm.errors.UserError: image a.png is empty\n'
    )
    assert user_line(worker) == 'image a.png is empty'
    assert user_line(RuntimeError('ours')) is None


def test_ctrl_c_ends_with_130(capsys):
    from hkd_mm.cli import run_tool

    def interrupted():
        raise KeyboardInterrupt

    assert run_tool(interrupted) == 130
    assert '--resume' in capsys.readouterr().err
