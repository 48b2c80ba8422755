# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""An export: what lies in the folder, and what makes it refuse."""

import json
import shutil

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from hkd_mm.datasets.load_skin_image import read_image
from hkd_mm.datasets.splits import balanced_choice
from hkd_mm.errors import UserError
from hkd_mm.export import export_run as export_module
from hkd_mm.export import export_tasks as exporter_module
from hkd_mm.export.checks import probabilities, same_logits, same_probabilities
from hkd_mm.export.export_run import export
from hkd_mm.export.onnx_writer import plain_network
from hkd_mm.export.options import ExportOptions
from hkd_mm.export.samples import USUAL_SIZES, as_seen, read_samples
from hkd_mm.inference.manifest import read_manifest
from hkd_mm.inference.run_folder import read_run
from hkd_mm.io.files import sha256

WHOLE = [
    'README.md',
    'manifest.json',
    'student.onnx',
    'student_image.onnx',
    'student_int8.onnx',
    'student_int8_image.onnx',
]


@pytest.fixture(scope='session')
def exported(tiny_run, tmp_path_factory):
    """The folder of an export with everything that is always there."""
    splits, run = [], tmp_path_factory.mktemp('exported') / tiny_run.name
    shutil.copytree(tiny_run, run)

    def counting(run, split, *args):
        splits.append(split)
        return read_samples(run, split, *args)

    options = ExportOptions(
        with_preprocessing=True,
        calibration_images=9,
        int8_limit=100.0,
        int8_recall_limit=100.0,
        confident_accuracy=0.5,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exporter_module.samples, 'read_samples', counting)
        export(run, None, options)
    assert splits == ['val', 'train']
    return run / 'export'


def _run(path, images):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options)
    return session.run(None, dict(images=images))[0]


def test_the_folder_is_whole(exported, tiny_run) -> None:
    assert sorted(path.name for path in exported.iterdir()) == WHOLE
    manifest = read_manifest(exported)
    assert list(manifest.files) == ['fp32', 'int8', 'fp32_image', 'int8_image']
    for kind, spec in manifest.files.items():
        path = manifest.file_of(exported, kind)
        onnx.checker.check_model(str(path), full_check=True)
        image = kind.endswith('image')
        assert spec.takes == ('image' if image else 'tensor')
        assert spec.gives == ('probabilities' if image else 'logits')
    assert manifest.input.size == (16, 16)
    assert manifest.input.mean == (127.5,) * 3
    assert manifest.calibration_images == 9
    assert manifest.source['checkpoint'] == 'best.pth'
    weights = sha256(tiny_run / 'student.pth')
    assert manifest.source['weights_sha256'] == weights
    assert manifest.metrics['test'] == dict(balanced_accuracy=0.25)
    assert manifest.threshold.n == 9
    card = (exported / 'README.md').read_text()
    assert 'No diagnostic device' in card and 'student_int8.onnx' in card


def test_graphs_tell_nothing_of_the_machine(exported) -> None:
    for name in WHOLE:
        content = (exported / name).read_bytes()
        for word in (b'site-packages', b'.py"', b'/tmp/', b'hkd_mm/models'):
            assert word not in content, (name, word)


def test_a_graph_says_what_its_user_has_to_know(exported, capfd) -> None:
    """In its metadata, without warnings, for any runtime that has its opset."""
    manifest = read_manifest(exported)
    for spec in manifest.files.values():
        session = onnxruntime.InferenceSession(str(exported / spec.path))
        found = session.get_modelmeta().custom_metadata_map
        found = {key: json.loads(value) for key, value in found.items()}
        assert found['classes'] == list(manifest.classes)
        assert found['temperature'] == manifest.temperature
        assert found['threshold'] == manifest.threshold.probability
        assert found['size'] == [16, 16] and found['colour'] == 'RGB'
        assert found['mean'] == found['std'] == [127.5] * 3
        model = onnx.load(exported / spec.path)
        opsets = [(one.domain, one.version) for one in model.opset_import]
        assert opsets == [('', 18)] and model.ir_version == 8
    assert capfd.readouterr().err == ''


def test_graphs_for_older_runtimes(exported, tiny_run, tmp_path) -> None:
    options = ExportOptions(int8=False, with_preprocessing=True, opset=16, ir_version=9)
    manifest = export(tiny_run, tmp_path / 'old', options, lambda line: None)
    images = np.random.default_rng(0).integers(0, 256, (2, 40, 30, 3), np.uint8)
    for spec in manifest.files.values():
        model = onnx.load(tmp_path / 'old' / spec.path)
        assert [one.version for one in model.opset_import] == [16]
        assert model.ir_version == 9
    name = 'student_image.onnx'
    old, new = (_run(folder / name, images) for folder in (tmp_path / 'old', exported))
    np.testing.assert_allclose(old, new, atol=1e-5)


def test_batch_norms_are_folded(exported) -> None:
    nodes = onnx.load(exported / 'student.onnx').graph.node
    kinds = {node.op_type for node in nodes}
    assert 'Conv' in kinds and 'BatchNormalization' not in kinds
    quantised = onnx.load(exported / 'student_int8.onnx').graph
    assert any(node.op_type == 'QuantizeLinear' for node in quantised.node)
    assert any(
        value.data_type == onnx.TensorProto.INT8 and len(value.dims) == 4
        for value in quantised.initializer
    )


@pytest.mark.parametrize('count', [1, 2, 7])
def test_logits_are_those_of_torch(exported, tiny_run, count) -> None:
    run = read_run(tiny_run)
    images = np.random.default_rng(count).normal(size=(count, 3, 16, 16))
    images = images.astype(np.float32)
    with torch.no_grad():
        wanted = plain_network(run)(torch.from_numpy(images)).numpy()
    found = _run(exported / 'student.onnx', images)
    np.testing.assert_allclose(found, wanted, atol=1e-4)
    assert _run(exported / 'student_int8.onnx', images).shape == (count, 3)


def test_photographs_give_the_probabilities_of_the_tensors(exported, tiny_run) -> None:
    run, manifest = read_run(tiny_run), read_manifest(exported)
    val = read_samples(run, 'val')
    tensors = (val.images.astype(np.float32) - 127.5) / 127.5
    photographs = [read_image(path)[..., ::-1] for path in val.paths]
    for kind in ('fp32', 'int8'):
        logits = _run(exported / manifest.files[kind].path, tensors)
        wanted = probabilities(logits, manifest.temperature)
        path = exported / manifest.files[f'{kind}_image'].path
        found = _run(path, np.stack(photographs))
        np.testing.assert_allclose(found, wanted, atol=1e-5)
        np.testing.assert_allclose(found.sum(1), 1, atol=1e-5)
    checks = manifest.checks
    assert checks['images'] == len(val.labels)
    assert checks['fp32_image']['images'] == len(val.labels) + len(USUAL_SIZES)
    right = (logits.argmax(1) == val.labels).mean()  # classes of one size
    figures = checks['measured']['int8']
    assert figures['balanced_accuracy'] == pytest.approx(right)
    assert figures['recall'].keys() == set(run.classes)


def test_a_resize_wrong_at_usual_sizes_is_refused(tiny_run, tmp_path, monkeypatch):
    def other(photographs, spec):  # other colours, where sizes are the usual
        images = as_seen(photographs, spec)
        return np.roll(images, 1, axis=1) if len(images) == 4 else images

    monkeypatch.setattr(exporter_module.samples, 'as_seen', other)
    options = ExportOptions(int8=False, with_preprocessing=True)
    with pytest.raises(UserError, match='student_image: the resize in the graph'):
        export(tiny_run, tmp_path / 'out', options, lambda line: None)
    assert not (tmp_path / 'out').exists()


def test_the_code_of_the_card_runs(exported, tmp_path, monkeypatch, capsys) -> None:
    from PIL import Image

    folder = shutil.copytree(exported, tmp_path / 'out')
    Image.new('RGB', (40, 30), (160, 60, 60)).save(folder / 'image.jpg')
    monkeypatch.chdir(folder)
    card = (folder / 'README.md').read_text()
    exec(card.split('```python\n')[1].split('```')[0], {})
    manifest = read_manifest(folder)
    told = capsys.readouterr().out
    assert any(name in told for name in manifest.classes)


def test_confident_answers_are_counted_by_class(exported) -> None:
    manifest = read_manifest(exported)
    found = manifest.checks['confident_by_class']
    assert list(found) == list(manifest.classes)
    confident = round(manifest.threshold.coverage * manifest.threshold.n)
    counts = [one['confident_predicted'] for one in found.values()]
    assert confident and confident == sum(counts)
    card = (exported / 'README.md').read_text()
    assert '| class | images | confident, correct | confident, wrong |' in card
    for name, one in found.items():
        assert f'| {name} | {" | ".join(map(str, one.values()))} |' in card
    assert manifest.checks['confident_lesions'] is None
    assert 'no lesion is known' in manifest.threshold.rule
    assert 'With lesions unknown each image counts for itself' in card


def test_what_speaks_against_the_figures_is_told(tiny_run, tmp_path, capsys) -> None:
    """Classes that are trivial, an int8 that is wrong, and a bad class."""
    from hkd_mm.export import checks as confidence_module

    said = []
    spoilt = dict(
        images=9, confident_correct=1, confident_wrong=2, confident_predicted=1
    )
    options = ExportOptions(
        int8_limit=100.0,
        int8_recall_limit=100.0,
        confident_accuracy=0.5,
        calibration_images=3,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exporter_module.onnx_writer, 'quantise', _shift)
        patch.setattr(
            confidence_module.selective,
            'confident_by_class',
            lambda *args: dict(Acne=spoilt),
        )
        manifest = export(tiny_run, tmp_path / 'out', options, said.append)
    assert 'confident answers on validation' in capsys.readouterr().out
    card = (tmp_path / 'out' / 'README.md').read_text()
    note = manifest.checks['temperature_note']
    assert 'no validation image is answered wrongly' in note
    int8 = manifest.checks['int8']['confident_note']
    assert 'below --confident-accuracy 0.5' in int8
    for told in (note, int8, 'right on validation: Acne (2 wrong, 1 right)'):
        lines = [line for line in said if told in line]
        assert len(lines) == 1 and lines[0].startswith('warning: ')
        assert told in card


def _shift(fp32, out, batches, weight_bits) -> None:
    """An int8 network that is as confident, of the next class."""
    list(batches)
    model = onnx.load(fp32)
    model.graph.node[-1].output[0] = 'right'
    order = onnx.numpy_helper.from_array(np.array([1, 2, 0]), 'order')
    model.graph.initializer.append(order)
    model.graph.node.append(
        onnx.helper.make_node('Gather', ['right', 'order'], ['logits'], axis=1)
    )
    onnx.save(model, out)


def test_a_loss_of_int8_that_may_be_chance_is_noted(
    tiny_run, tmp_path, monkeypatch
) -> None:
    said, asked = [], []

    def doubt(costs, score, strict) -> str:
        asked.append(strict)
        return f'int8 loses a little {score}'

    monkeypatch.setattr(exporter_module, 'refuse_int8', doubt)
    monkeypatch.setattr(exporter_module.onnx_writer, 'quantise', _shift)
    options = ExportOptions(calibration_images=3, int8_strict=True)
    manifest = export(tiny_run, tmp_path / 'out', options, said.append)
    note = 'int8 loses a little balanced accuracy'
    assert manifest.checks['int8']['limit_note'] == note
    assert f'warning: {note}' in said and asked == [True]
    assert f'**Note: {note}.**' in (tmp_path / 'out/README.md').read_text()
    assert read_manifest(tmp_path / 'out').checks == manifest.checks


def _ruin(fp32, out, batches, weight_bits) -> None:
    """An int8 network that takes every class for another."""
    list(batches)
    model = onnx.load(fp32)
    last = model.graph.node[-1]
    last.output[0] = 'right'
    model.graph.node.append(onnx.helper.make_node('Neg', ['right'], ['logits']))
    onnx.save(model, out)


def test_int8_that_loses_too_much_is_refused(
    exported, tiny_run, tool, monkeypatch, capsys
) -> None:
    before = (exported / 'manifest.json').read_bytes()
    monkeypatch.setattr(exporter_module.onnx_writer, 'quantise', _ruin)
    command = [str(tiny_run), '--calibration-images', '3']
    assert tool('export')(command) == 2
    told = capsys.readouterr()
    line = told.err.strip().splitlines()[-1]
    assert line.startswith('error: int8 loses ') and '--int8-limit 1' in line
    assert 'recall of each class' in told.out
    # the earlier export is as it was
    assert sorted(path.name for path in exported.iterdir()) == WHOLE
    assert (exported / 'manifest.json').read_bytes() == before


def test_a_killed_export_leaves_no_manifest(
    exported, tiny_run, tmp_path, monkeypatch
) -> None:
    out = shutil.copytree(exported, tmp_path / 'out')
    (out / '.999999999.part').mkdir()

    def killed(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(export_module, 'write_manifest', killed)
    with pytest.raises(KeyboardInterrupt):
        export(tiny_run, out, ExportOptions(int8=False))
    assert sorted(path.name for path in out.iterdir()) == [
        'README.md',
        'student.onnx',
    ]
    with pytest.raises(UserError, match='does not exist'):
        read_manifest(out)


def _changed(tiny_run, tmp_path, old, new):
    place = shutil.copytree(tiny_run, tmp_path / 'run')
    path = place / 'tiny_student.py'
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    return place


@pytest.mark.parametrize(
    ('old', 'new', 'told'),
    [
        ("interpolation='area'", "interpolation='cubic'", "tion='area'"),
        (
            "scale=input_size, interpolation='area'), pack]",
            "scale=32, interpolation='area'), "
            "dict(type='CenterCrop', crop_size=16), pack]",
            'CenterCrop',
        ),
        ("interpolation='area'", "interpolation='area', keep_ratio=True", '.'),
    ],
)
def test_other_preparations_are_refused(tiny_run, tmp_path, old, new, told) -> None:
    place = _changed(tiny_run, tmp_path, old, new)
    with pytest.raises(UserError, match=told):
        read_run(place)


def test_another_size_than_that_of_the_training_is_refused(tiny_run, tmp_path) -> None:
    place = _changed(tiny_run, tmp_path, 'input_size = 16', 'input_size = 24')
    path = place / 'student.pth'
    state = torch.load(path)
    state['meta']['input'] = dict(size=[24, 24], interpolation='area', steps=[])
    torch.save(state, path)
    assert read_run(place).spec.size == (24, 24)
    state['meta']['input']['size'] = [16, 16]
    torch.save(state, path)
    with pytest.raises(UserError, match='16 x 16 pixels, and .* 24 x 24'):
        read_run(place)


def test_another_split_is_refused(tiny_run, tmp_path) -> None:
    text = (tiny_run.parent / 'split.json').read_text()
    other = tmp_path / 'split.json'
    names = ('"train"', '"val"', '"x"')
    for old, new in zip(names, (names[2], names[0], names[1])):
        text = text.replace(old, new)
    other.write_text(text.replace('"x"', '"val"'))
    run = read_run(tiny_run, [f'split_file={other}'])
    with pytest.raises(UserError, match='split'):
        read_samples(run, 'val')


def test_the_test_split_cannot_be_asked_for(tiny_run) -> None:
    with pytest.raises(ValueError, match='does not read the test split'):
        read_samples(read_run(tiny_run), 'test')


def test_a_loader_of_another_split_is_refused(tiny_run) -> None:
    run = read_run(tiny_run, ['val_dataloader.dataset.split=test'])
    with pytest.raises(UserError, match='is on the split test'):
        read_samples(run, 'val')


def test_a_folder_without_a_student_is_refused(tmp_path, tool, capsys) -> None:
    assert tool('export')([str(tmp_path)]) == 2
    assert 'holds no student.pth' in capsys.readouterr().err


@pytest.mark.parametrize(
    'words',
    [
        ['--calibration-images', '0'],
        ['--confident-accuracy', '1'],
        ['--int8-limit', '-1'],
        ['--int8-limit', 'nan'],
        ['--int8-recall-limit', '-1'],
        ['--int8-recall-limit', 'inf'],
        ['--calibration-images', '-1'],
        ['--opset', '12'],
        ['--ir-version', '7'],
        ['--ir-version', '99'],
    ],
)
def test_values_out_of_range_are_refused(tiny_run, tool, capsys, words) -> None:
    assert tool('export')([str(tiny_run), *words]) == 2
    assert words[0] in capsys.readouterr().err


@pytest.mark.parametrize('out', ['file', 'file/x', 'export/inside/x', 'closed'])
def test_a_place_that_takes_no_export_is_told(
    tiny_run, tool, tmp_path, capsys, monkeypatch, out
) -> None:
    (tmp_path / 'file').touch()
    (tmp_path / 'export').mkdir()
    (tmp_path / 'export/manifest.json').write_text('{}')
    upstream = export_module.Path.mkdir

    def mkdir(self, *args, **kwargs):
        if 'closed' in self.name:
            raise OSError(30, 'Read-only file system')
        upstream(self, *args, **kwargs)

    monkeypatch.setattr(export_module.Path, 'mkdir', mkdir)
    assert tool('export')([str(tiny_run), '--out', str(tmp_path / out)]) == 2
    told = capsys.readouterr().err.splitlines()[-1]
    assert told.startswith(f'error: --out {tmp_path / out} ') and 'give another' in told


def test_the_old_name_of_an_option_is_refused_with_the_new(
    tiny_run, tool, capsys
) -> None:
    with pytest.raises(SystemExit):
        tool('export')([str(tiny_run), '--sure-accuracy', '0.9'])
    assert 'now called --confident-accuracy' in capsys.readouterr().err


def test_calibration_takes_the_classes_in_turn() -> None:
    labels = np.array([0] * 50 + [1] * 3 + [2] * 20)
    chosen = balanced_choice(labels, 21, 7)
    assert np.bincount(labels[chosen]).tolist() == [9, 3, 9]
    assert len(np.unique(chosen)) == 21
    assert (chosen == balanced_choice(labels, 21, 7)).all()
    assert (chosen != balanced_choice(labels, 21, 8)).any()
    assert len(balanced_choice(labels, 1000, 0)) == 73


def test_logits_that_differ_are_refused() -> None:
    trained = np.array([[100.0, 0.0]])
    found = same_logits(trained, trained + 0.009)
    assert found['max'] == pytest.approx(9e-3)
    assert found['scaled'] == pytest.approx(9e-5)
    for other in (trained + 0.011, trained * np.nan):
        with pytest.raises(UserError, match='not the trained network'):
            same_logits(trained, other)
    small = np.array([[0.5, 0.0]])
    with pytest.raises(UserError, match='limit 0.0001'):
        same_logits(small, small + 2e-4)
    # a large logit of one image is no excuse for those of another
    both = np.concatenate([trained, small])
    with pytest.raises(UserError, match='2.00e-04'):
        same_logits(both, both + 2e-4)


def test_probabilities_that_differ_are_refused() -> None:
    one = np.array([[0.5, 0.5]])
    assert same_probabilities('fp32_image', one, one)['images'] == 1
    with pytest.raises(UserError, match='not that of the training'):
        same_probabilities('fp32_image', one, one + 2e-3)
    same_probabilities('int8_image', one, one + 2e-3, int8=True)


def test_a_network_that_takes_bgr_is_given_rgb(tiny_run, tmp_path) -> None:
    place = shutil.copytree(tiny_run, tmp_path / 'run')
    loaded = torch.load(place / 'student.pth', weights_only=True)
    words = dict(to_rgb=False, mean=[1.0, 2.0, 3.0], std=[4.0, 5.0, 6.0])
    loaded['meta']['student']['data_preprocessor'].update(words)
    torch.save(loaded, place / 'student.pth')
    swapped, plain = read_run(place), read_run(tiny_run)
    assert swapped.spec.mean == (3.0, 2.0, 1.0)
    assert swapped.spec.std == (6.0, 5.0, 4.0)
    images = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        found = plain_network(swapped)(images)
        wanted = plain_network(plain)(images.flip(1))
    assert torch.equal(found, wanted)


def test_a_missing_package_is_told_in_one_line(
    tiny_run, tool, capsys, monkeypatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, 'onnxscript', None)
    assert tool('export')([str(tiny_run)]) == 2
    assert 'pip install "onnxscript' in capsys.readouterr().err


def test_executorch_that_is_missing_is_told(
    tiny_run, tool, capsys, monkeypatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, 'executorch', None)
    assert tool('export')([str(tiny_run), '--executorch']) == 2
    assert '--executorch needs executorch' in capsys.readouterr().err


def test_executorch_answers_as_torch(tiny_run, tmp_path) -> None:
    pytest.importorskip('executorch')
    from executorch.runtime import Runtime

    out = tmp_path / 'out'
    manifest = export(tiny_run, out, ExportOptions(int8=False, executorch=True))
    path = manifest.file_of(out, 'executorch')
    assert path.name == 'student.pte'
    program = Runtime.get().load_program(path)
    method = program.load_method('forward')
    images = torch.randn(3, 3, 16, 16, generator=torch.manual_seed(0))
    found = np.concatenate(
        [method.execute([image[None]])[0].numpy() for image in images]
    )
    with torch.no_grad():
        wanted = plain_network(read_run(tiny_run))(images).numpy()
    np.testing.assert_allclose(found, wanted, atol=1e-4)
    assert np.ptp(wanted) > 0.1
    assert manifest.checks['executorch']['scaled'] <= 1e-4


def test_manifest_is_json_of_the_contract(exported) -> None:
    data = json.loads((exported / 'manifest.json').read_text())
    assert data['format'] == 'hkd_mm' and data['format_version'] == 3
    assert data['threshold'].keys() == {
        'probability',
        'rule',
        'coverage',
        'accuracy',
        'n',
    }
    assert data['metrics'].keys() == {'val', 'test'}
