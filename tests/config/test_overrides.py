# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Every config says what runs; every word reaches a place or is refused."""

import copy
import functools
import shlex
import unicodedata
from pathlib import Path

import pytest
from mmengine.config import Config

from hkd_mm.config.cfg_options import option_text, read_names
from hkd_mm.config.compose import apply_options, compose_config
from hkd_mm.config.config_text import config_text
from hkd_mm.config.overrides import (
    OVERRIDES,
    PACKED,
    NoPlaceError,
    class_weight,
    override,
    words,
)
from hkd_mm.config.teacher_options import (
    places_of,
    stage_options,
    teacher_options,
)
from hkd_mm.config.tree import (
    LOADERS,
    dataset_chain,
    datasets,
    dicts,
    hooks,
    mixes,
    packed_datasets,
    preprocessor,
)
from hkd_mm.datasets.class_folders import class_names
from hkd_mm.errors import UserError
from hkd_mm.io.signatures import type_name

CONFIGS = Path(__file__).parents[2] / 'configs'
RUNNABLE = sorted(
    path.relative_to(CONFIGS).as_posix()
    for path in CONFIGS.rglob('*.py')
    if not {'_base_', 'studies', 'sweeps'} & set(path.parts)
    and not path.name.startswith('_')
)
every_config = pytest.mark.parametrize('name', RUNNABLE)
# Types that read masks, and those that a word's place is of.
_MASKED, _METRIC = 'PackedMasks', 'SegmentationMetric'
_SOFT = (
    {'KLLoss'},
    {'SimKDLoss'},
    {'BalancedSoftmaxLoss', 'PriorCorrectedKLLoss'},
    {'KLLoss', 'QueueDistillLoss'},
)
VALUES = dict(
    data_root='elsewhere/a, b',
    ann_file='a, b.csv',
    image_col='isic_id',
    label_col='diagnosis',
    group_cols=['patient_id', 'lesion_id'],
    split_col='fold',
    classes=['Mole, flat', '2', 'TRUE'],
    split_file='s.json',
    split_ratios=(0.6, 0.3, 0.1),
    split_seed=3,
    unlabelled_root='a pile',
    input_size=96,
    teacher_input_size=192,
    batch_size=7,
    max_epochs=33,
    patience=3,
    class_weight=[3.0, 1.0],
    mask_threshold=0.3,
    seed=9,
    loss_balance=0.5,
    augment=False,
    channels_last=False,
    compiled=True,
    device='cpu',
)
VALUES |= {
    'packed.margin': 1.2,
    'packed.store_dir': 'some where',
    'packed.in_memory': True,
    'packed.verify': 'sample',
    'packed.hair_removal': dict(threshold=20),
    'packed.top_up': 500,
    'packed.augment': [dict(type='hkd_mm.VerticalFlip')],
    'packed.num_views': 3,
    'packed.seed': 4,
    'packed.partners': 'split',
}


@functools.cache
def composed(name: str) -> Config:
    """Read a config once for all tests; they work on copies."""
    return compose_config(CONFIGS / name)


def changed(name: str, options) -> Config:
    """Apply options to a copy."""
    cfg = copy.deepcopy(composed(name))
    apply_options(cfg, options)
    return cfg


def value_for(word: str, cfg: Config):
    """A value that the config does not have yet."""
    if word == 'dataset_type':
        kinds = {type_name(node) for node in datasets(cfg)}
        return f'hkd_mm.{({"HAM10000", "ISIC2019"} - kinds).pop()}'
    if word == 'sampler':
        loader = cfg.train_dataloader
        balanced = type_name(loader.sampler) == 'BalancedSampler'
        return None if balanced else 'balanced'
    if word == 'pretrained':
        return not cfg.get('pretrained', True)
    if word == 'teacher_cache':
        return not cfg.model.get('teacher_cache')
    if word == 'packed.partners' and preprocessor(cfg).get('partners') == 'split':
        return 'batch'
    return VALUES[word]


def has_place(word: str, cfg: Config) -> bool:
    """Whether a config has what a word is about, by a look at its types."""
    model = cfg.model
    masked = any(type_name(node) == _MASKED for _, node in packed_datasets(cfg))
    nodes = list(dicts(cfg._cfg_dict))
    if word == 'sampler':
        sampler = type_name(cfg.train_dataloader.get('sampler'))
        return sampler in ('DefaultSampler', 'BalancedSampler')
    if word == 'mask_threshold':
        return any(type_name(node) == _METRIC for node in nodes)
    if word == 'packed.partners':
        return mixes(preprocessor(cfg).get('augment'))
    masked_out = 'packed.hair_removal packed.top_up unlabelled_root'
    if word in masked_out.split():
        return not masked
    if word == 'class_weight':  # not where the student has but soft targets
        losses = (model.get('distiller') or {}).get('distill_losses') or {}
        soft = {type_name(loss) for loss in losses.values()} in _SOFT
        return not masked and not soft
    if word == 'teacher_cache':
        return type_name(model) != 'ImageClassifier' and bool(model.get('teacher'))
    if word == 'teacher_input_size':
        return not masked and bool(model.get('teacher'))
    if word == 'loss_balance':
        return 'Distill' in type_name(model) and type_name(model) != 'MutualDistill'
    if word == 'pretrained':
        student = [*dicts(model, skip=('teacher', 'teachers'))]
        return any('pretrained' in node for node in student)
    return True


@every_config
def test_a_file_says_what_runs(name, tmp_path):
    """And so does the one that tools/print_config.py prints of it."""
    cfg = composed(name)
    assert cfg._cfg_dict == Config.fromfile(CONFIGS / name)._cfg_dict
    path = tmp_path / 'printed.py'
    path.write_text(config_text(cfg))
    printed = Config.fromfile(path, import_custom_modules=False)
    assert '_base_ =' not in printed.text
    assert repr(printed._cfg_dict) == repr(cfg._cfg_dict)  # tuples, order


@every_config
def test_every_word_reaches_a_place_or_is_refused(name):
    cfg = composed(name)
    for word in [*OVERRIDES, *PACKED]:
        value = value_for(word, cfg)
        if not has_place(word, cfg):
            with pytest.raises(NoPlaceError, match=word) as caught:
                changed(name, {word: value})
            assert '\n' not in str(caught.value)
            assert override(word).needs in str(caught.value)
            continue
        new = changed(name, {word: value})
        assert new._cfg_dict != cfg._cfg_dict, word
        targets = list(override(word).targets(new, value))
        inside = {id(node) for node in dicts(new._cfg_dict)} | {id(new)}
        assert targets, word
        for group, key, wanted in targets:
            assert id(group) in inside, (word, key)
            assert group[key] == wanted, (word, key)


@every_config
def test_networks_are_exchanged_or_the_word_is_refused(name):
    model = composed(name).model
    for role, part in (
        ('teacher', model.get('teacher')),
        ('student', model.get('architecture')),
        ('network', None if 'architecture' in model else model),
    ):
        option = {role: 'timm:ghostnet_050'}
        if not part:
            with pytest.raises(NoPlaceError, match=f'{role}='):
                changed(name, option)
            continue
        new = changed(name, option).model
        place = dict(teacher='teacher', student='architecture').get(role)
        found = new[place] if place else new
        assert 'ghostnet_050' in [n.get('model_name') for n in dicts(found)]
        for other in {'teacher', 'architecture'} - {place, role}:
            if role not in (model.get('architecture') or {}):
                assert place is None or new.get(other) == model.get(other)


@every_config
def test_packed_images_are_turned_off_or_it_says_why_not(name):
    cfg = composed(name)
    needed = [
        key
        for _, node in packed_datasets(cfg)
        for key in ('hair_removal', 'top_up')
        if node.get(key)
    ]
    augment = {type_name(step) for step in preprocessor(cfg).augment}
    no_counterpart = {'CutMix', 'Mixup', 'RandAugment', 'RandomResizedCrop', 'Rotate90'}
    needed += sorted(augment & no_counterpart)
    if type_name(preprocessor(cfg)) != 'PackedPreprocessor':
        needed = ['masks']
    if needed:
        with pytest.raises(UserError, match='^packed=False: ') as caught:
            changed(name, {'packed': False})
        assert any(word in str(caught.value) for word in needed)
        return
    new = changed(name, {'packed': False})
    assert not list(packed_datasets(new)) and new.packed is False
    assert not new.model.get('teacher_cache')
    for loader in LOADERS:
        (node,) = dataset_chain(new[loader])
        kinds = [type_name(step) for step in node.pipeline]
        assert kinds[:2] == ['LoadSkinImage', 'Resize']
        assert kinds[-1] == 'PackInputs'
        *_, inner = dataset_chain(cfg[loader])
        assert {k: node[k] for k in inner} == inner
        assert ('RandomFlip' in kinds) is (loader == 'train_dataloader')


@pytest.mark.parametrize(
    'name',
    [
        name
        for name in RUNNABLE
        if not name.startswith(('zoo/', 'dspkd/'))  # see test_zoo.py
    ],
)
def test_a_pair_is_exchanged_or_the_word_is_refused(name):
    distils = 'architecture' in composed(name).model
    grown = 'ham10000_64/' in name  # builds on values of its pair
    if not distils or grown or name == 'recommended.py':
        said = 'which builds on' if distils and grown else 'no pair to exchange'
        with pytest.raises(UserError, match=f'^pair=demo.*{said}') as caught:
            compose_config(CONFIGS / name, ['pair=demo'])
        assert '\n' not in str(caught.value)
        return
    new = compose_config(CONFIGS / name, ['pair=demo'])
    assert new.model.teacher.model_name == 'resnet18'


def test_the_table_has_every_word():
    assert set(words()) == {
        *VALUES,
        *('dataset_type', 'sampler', 'pretrained', 'teacher_cache'),
        *('pair', 'packed', 'teacher', 'student', 'network'),
    }


def _child(folder: Path, text: str, base='hybrid_wrn50_mbv2.py') -> Path:
    path = folder / 'child.py'
    path.write_text(f'_base_ = {str(CONFIGS / base)!r}\n{text}\n')
    return path


@pytest.mark.parametrize(
    'base', ['hybrid_wrn50_mbv2.py', 'segmentation/unet-r18_lidc.py']
)
def test_a_child_keeps_the_hooks_of_every_run(base, tmp_path):
    text = "custom_hooks = [dict(type='EMAHook')]"
    new = compose_config(_child(tmp_path, text, base))
    found = [type_name(hook) for hook in hooks(new)]
    assert found[:-1] == [type_name(hook) for hook in hooks(composed(base))]
    assert found[-1] == 'EMAHook'
    assert {'GuardRailsHook', 'RunReportHook', 'CheckpointGuardHook'} < {*found}


def test_a_runner_of_a_child_has_the_hooks_of_every_run(tmp_path):
    """As MMEngine registers them, named ones and those of the child."""
    from mmengine.runner import Runner

    text = "custom_hooks = [dict(type='EMAHook')]"
    cfg = compose_config(_child(tmp_path, text))
    runner = object.__new__(Runner)
    runner._hooks = []
    runner.register_hooks(cfg.default_hooks, cfg.custom_hooks)
    found = [type(hook).__name__ for hook in runner.hooks]
    assert sorted(found) == sorted(type_name(hook) for hook in hooks(cfg))
    assert 'EMAHook' in found and 'EpochSeedHook' in found


@pytest.mark.parametrize(
    'text, said',
    [
        ('batch_size = 32', 'batch_size = 32 .*batch_size=64'),
        ("data_root = 'mine'", "data_root = 'mine' .*'data/skin_disease'"),
        ('max_epochs = 3', 'max_epochs = 3 .*max_epochs=100'),
        ('input_size = 96', 'input_size = 96 .*size=116'),
        ('seed = 7', 'seed = 7 .*seed=42'),
        ('split_seed = 7', 'split_seed = 7 .*seed=42'),
        ('patience = 7', 'patience = 7 .*patience=100'),
        ('pretrained = False', 'pretrained = False .*pretrained=True'),
        ("class_weight = 'balanced'", "class_weight = 'balanced' .*None"),
        ("sampler = 'balanced'", "sampler = 'balanced' .*DefaultSampler"),
        ("classes = ['A', 'B']", "classes = .*'A'.* classes=None"),
        ('compiled = True', 'compiled = True .*student=False'),
        ('packed = False', 'packed = False stands at the top'),
    ],
)
def test_a_word_at_the_top_of_a_child_is_refused(text, said, tmp_path):
    path = _child(tmp_path, text)
    with pytest.raises(UserError, match=said) as caught:
        compose_config(path)
    assert str(path) in str(caught.value) and '\n' not in str(caught.value)
    word = text.split()[0]
    assert f'--cfg-options {word}=' in str(caught.value)


@pytest.mark.parametrize(
    'options, word, value',
    [
        (['randomness.seed=7'], 'seed', 7),
        (['train_cfg.max_epochs=3'], 'max_epochs', 3),
        (['default_hooks.early_stopping.patience=5'], 'patience', 5),
        (['model.architecture.pretrained=False'], 'pretrained', False),
        (
            ['sampler=balanced', 'train_dataloader.sampler.power=0.5'],
            'sampler',
            'balanced',
        ),
        (['batch_size=8', 'test_dataloader.batch_size=2'], 'batch_size', 8),
    ],
)
def test_what_a_run_writes_down_can_be_read_again(options, word, value, tmp_path):
    """A dotted key is no contradiction of the word that it makes false."""
    cfg = changed('hybrid_wrn50_mbv2.py', options)
    assert cfg[word] == value
    (tmp_path / 'run.py').write_text(config_text(cfg))
    assert compose_config(tmp_path / 'run.py')._cfg_dict == cfg._cfg_dict


def test_a_child_states_nested_values(tmp_path):
    text = (
        'batch_size = 32\n'
        'train_dataloader = dict(batch_size=batch_size)\n'
        'val_dataloader = dict(batch_size=batch_size)'
    )
    cfg = compose_config(_child(tmp_path, text))
    assert [cfg[name].batch_size for name in LOADERS] == [32, 32, 64]


def test_a_pipeline_that_nothing_would_run_is_refused(tmp_path):
    for place in ('dataset', 'dataset=dict(dataset'):
        text = f"train_dataloader = dict({place}=dict(pipeline=[dict(type='x')"
        text += ']))' + ')' * place.count('(')
        with pytest.raises(UserError, match='run no pipeline') as caught:
            compose_config(_child(tmp_path, text))
        assert 'train_dataloader' in str(caught.value)


NAMES = [
    'Acne and Rosacea',
    '2',
    'TRUE',
    'None',
    'a,b',
    '[x]',
    '(y',
    "it's",
    'say "so"',
    'back\\slash',
    '$HOME `x`',
    'Lupus érythémateux',
    '皮膚',
]


def test_class_names_survive_the_shell():
    text = option_text('classes', NAMES)
    (word,) = shlex.split(text)
    key, _, value = word.partition('=')
    assert key == 'classes' and read_names(value) == NAMES
    for name in NAMES:
        (word,) = shlex.split(option_text('classes', [name]))
        assert read_names(word.partition('=')[2]) == [name]
    cfg = changed('hybrid_wrn50_mbv2.py', [word_of(NAMES)])
    assert all(node.classes == NAMES for node in datasets(cfg))
    assert cfg.model.architecture.num_classes == len(NAMES)
    assert cfg.model.teacher.num_classes == len(NAMES)


def word_of(names) -> str:
    """The argument that a tool is given by the shell."""
    return shlex.split(option_text('classes', names))[0]


@pytest.mark.parametrize(
    'text, names',
    [
        ('["Mole, flat","2","TRUE"]', ['Mole, flat', '2', 'TRUE']),
        ("['Mole, flat', '2']", ['Mole, flat', '2']),
        ('[Acne and Rosacea,2,TRUE]', ['Acne and Rosacea', '2', 'TRUE']),
        ('A, B', ['A', 'B']),
        ('[A]', ['A']),
        ('None', None),
    ],
)
def test_class_names_as_they_are_typed(text, names):
    assert read_names(text) == names


def test_class_names_are_composed_and_may_come_from_a_file(tmp_path):
    apart = [unicodedata.normalize('NFD', name) for name in NAMES]
    assert apart != NAMES and class_names(apart) == NAMES
    path = tmp_path / 'my classes.txt'
    lines = '\r\n'.join(['', *apart[:3], '  ', *apart[3:], ''])
    path.write_bytes(('\ufeff' + lines).encode())
    assert class_names(str(path)) == NAMES
    cfg = changed('hybrid_wrn50_mbv2.py', [f'classes={path}'])
    assert all(node.classes == NAMES for node in datasets(cfg))
    path.write_bytes('Lupus \xe9'.encode('latin-1'))
    with pytest.raises(UserError, match='save it as UTF-8'):
        changed('hybrid_wrn50_mbv2.py', [f'classes={path}'])
    with pytest.raises(UserError, match='nor a file'):
        changed('hybrid_wrn50_mbv2.py', ['classes=nowhere.txt'])


def test_folders_with_any_names_set_the_heads(tmp_path, write_image):
    from hkd_mm.config.compose import load_config

    names = sorted(['Acne and Rosacea', '2', 'TRUE', 'a,b', "it's", '[x]'])
    for index, name in enumerate(names):
        for i in range(10):
            place = tmp_path / 'data' / name / f'{i}.png'
            write_image(place, 10 * index + i)
    cfg = load_config(
        CONFIGS / 'ham10000_64/mbv2.py',
        [
            f'data_root={tmp_path / "data"}',
            f'split_file={tmp_path / "split.json"}',
            'dataset_type=hkd_mm.SkinDisease',
            'classes=None',
        ],
    )
    assert cfg.model.num_classes == 6
    assert cfg.model.loss.class_weight == [1.0] * 6
    told = word_of(names)
    assert read_names(told.partition('=')[2]) == names


@pytest.mark.parametrize(
    ('config', 'options'),
    [
        ('ham10000_64/resnet18.py', ['network=resnet152']),
        ('ham10000_64/hybrid.py', ['student=shufflenetv2']),
    ],
)
def test_class_weights_stay_where_a_network_is_exchanged(config, options):
    cfg = compose_config(CONFIGS / config, options)
    weights = [t.group[t.key] for t in class_weight(cfg, None)]
    assert weights and set(weights) == {'sqrt_balanced'}


def test_an_earlier_stage_has_the_images_of_the_later_one(tmp_path):
    child = tmp_path / 'child.py'
    base = CONFIGS / 'zoo/dspkd/dspkd_wrn50_mbv2_skin.py'
    child.write_text(
        f"_base_ = {str(base)!r}\ndata_root = 'here'\ninput_size = 64\n"
        '_loader = dict(dataset=dict(\n'
        '    size=input_size, dataset=dict(data_root=data_root)))\n'
        'train_dataloader = val_dataloader = test_dataloader = _loader\n'
        'model = dict(input_size=input_size)\ndel _loader\n'
    )
    cfg = compose_config(child)
    first = str(CONFIGS / cfg.previous_stage_config)
    options, _ = stage_options(cfg, first, ['max_epochs=3'], ())
    assert options == dict(data_root='here', input_size=64, max_epochs='3')


def test_a_dotted_key_may_need_a_word():
    base = compose_config(CONFIGS / 'students/mbv2_skin.py')
    options = {'train_dataloader.sampler.power': 0.5, 'sampler': 'balanced'}
    assert places_of(base, options) == (options, {})


@pytest.mark.parametrize(
    ('text', 'refused'),
    [
        ('default_hooks = dict(early_stopping=dict(patience=5))', False),
        ('train_cfg = dict(max_epochs=50)', False),
        ('patience = 5', True),
        ('teacher_cache = False', True),
        ('augment = False', True),
        ("pair = 'demo'", True),
        (
            'train_cfg = dict(_delete_=True, type="IterBasedTrainLoop", max_iters=100)',
            False,
        ),
    ],
)
def test_what_stands_at_the_top_of_a_child(text, refused, tmp_path):
    child = tmp_path / 'child.py'
    base = str(CONFIGS / 'hybrid_wrn50_mbv2.py')
    child.write_text(f'_base_ = {base!r}\n{text}\n')
    if not refused:
        found = compose_config(child)
        assert found._cfg_dict == Config.fromfile(child)._cfg_dict
        return
    with pytest.raises(UserError, match='stands at the top'):
        compose_config(child)


@pytest.mark.parametrize('option', ['hair_removal=True', 'margin=1.25'])
def test_images_that_the_stock_pipeline_cannot_make_are_refused(option):
    base = CONFIGS / 'hybrid_wrn50_mbv2.py'
    with pytest.raises(UserError, match='leave one of them out'):
        compose_config(base, ['packed=False', f'packed.{option}'])


def test_milestones_keep_their_share_of_the_epochs(tmp_path):
    child = tmp_path / 'child.py'
    child.write_text(
        f'_base_ = {str(CONFIGS / "students/mbv2_skin.py")!r}\n'
        "param_scheduler = dict(_delete_=True, type='MultiStepLR', "
        'by_epoch=True, milestones=[30, 60, 90])\n'
    )
    cfg = compose_config(child, ['max_epochs=10'])
    assert cfg.param_scheduler.milestones == [3, 6, 9]


def test_the_teacher_sees_images_without_hair_as_the_student_does(tmp_path):
    child = tmp_path / 'child.py'
    child.write_text(
        f'_base_ = {str(CONFIGS / "hybrid_wrn50_mbv2.py")!r}\n'
        '_loader = dict(dataset=dict(hair_removal=True))\n'
        'train_dataloader = val_dataloader = test_dataloader = _loader\n'
        'del _loader\n'
    )
    cfg = compose_config(child)
    path = str(CONFIGS / cfg.teacher_config)
    options, lines = teacher_options(cfg, path, [])
    assert options == {'packed.hair_removal': True}
    assert 'packed.hair_removal=True as in' in lines[-1]
