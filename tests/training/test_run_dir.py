# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""``tools/test.py RUN_DIR``: what it takes, refuses and leaves."""

import json
import shutil
from pathlib import Path

import pytest
import tiny
import torch
from tiny import forget_runs

from hkd_mm.errors import UserError

PACKED = ['--cfg-options', 'packed=True']


@pytest.fixture(scope='module')
def finished(tiny_data, tmp_path_factory) -> Path:
    """A folder with the tiny configs and a finished run of the student."""
    from hkd_mm.training.trainer import train

    place = tmp_path_factory.mktemp('run_dir')
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setattr('mmengine.runner.runner.collect_env', dict)
        config = tiny.write_tiny_configs(place, tiny_data)['student']
        config.write_text(
            config.read_text()
            + "custom_hooks.append(dict(type='hkd_mm.RunReportHook'))\n"
        )
        forget_runs()
        train(str(config), str(place / 'run'))
    return place


@pytest.fixture
def run(finished, tmp_path, monkeypatch) -> Path:
    """A copy of that run, moved; works in its folder."""
    place = shutil.copytree(finished, tmp_path / 'copy')
    monkeypatch.chdir(place)
    return Path('run')


@pytest.fixture
def measure(tool, quick_runner, capsys):
    """Call the tool; return its exit code and what it printed."""

    def call(*argv):
        forget_runs()
        capsys.readouterr()
        code = tool('test')([str(word) for word in argv])
        said = capsys.readouterr()
        return code, said.out + said.err

    return call


def results(folder: Path) -> set[str]:
    return {
        path.name
        for path in folder.glob('*')
        if path.name.startswith(('test_', 'test.', 'predictions'))
    }


def read(path: Path) -> dict:
    return json.loads(path.read_text())


def test_results_are_in_the_folder_of_the_run(run, measure):
    assert measure(run)[0] == 0
    assert results(run) == {'test.json', 'predictions.csv'}
    found = read(run / 'test.json')
    facts = found['provenance']
    assert facts['split'] == 'test' and facts['images'] == 9
    assert facts['split_hash'] == read(run / 'metrics.json')['split_hash']
    assert facts['input']['size'] == [16, 16]
    assert facts['input']['interpolation'] == 'bilinear'
    assert facts['input']['mean'] == [127.5] * 3
    assert 1 <= found['predicted_classes'] <= 3
    assert list((run / 'test').glob('*/*.log'))
    # again, with config and checkpoint, and by the packed pipeline: the same
    first = (run / 'test.json').read_bytes()
    ways = (
        [run],
        ['tiny_student.py', run / 'student.pth'],
        [run, run / 'student.pth'],
        [run, *PACKED],
    )
    for way in ways:
        (run / 'predictions.csv').unlink()
        code, said = measure(*way)
        assert code == 0, said
        assert (run / 'test.json').read_bytes() == first
        assert results(run) == {'test.json', 'predictions.csv'}


def test_a_packed_training_is_tested_by_the_stock_pipeline(
    finished, tmp_path, measure, monkeypatch, quick_runner
):
    from hkd_mm.training.trainer import train

    monkeypatch.chdir(tmp_path)
    config = finished / 'tiny_student.py'
    train(str(config), 'packed', cfg_options=['packed=True', 'max_epochs=1'])
    assert measure('packed')[0] == 0
    first = Path('packed/test.json').read_bytes()
    assert measure(config, 'packed/student.pth')[0] == 0
    # the memory order of the images moves the last digits of scores
    again, before = read(Path('packed/test.json')), json.loads(first)
    for record in (again, before):  # those of the digits
        assert list(record['provenance'].pop('files')) == ['predictions.csv']
    assert again.pop('provenance') == before.pop('provenance')
    assert again == pytest.approx(before, rel=1e-5, nan_ok=True)
    code, said = measure('packed', '--cfg-options', 'input_size=24')
    assert code == 2 and '16 x 16 pixels (this test: 24 x 24' in said


def test_another_size_is_refused_and_possible_on_purpose(run, measure):
    for way in ([run], ['tiny_student.py', run / 'student.pth']):
        for options in (['input_size=24'], ['input_size=24', 'packed=True']):
            code, said = measure(*way, '--cfg-options', *options)
            assert code == 2
            assert 'images of 16 x 16 pixels (this test: 24 x 24' in said
            assert '--cfg-options input_size=16' in said
    assert results(run) == set()
    code, said = measure(run, '--other-input', '--cfg-options', 'input_size=24')
    assert code == 0 and 'on purpose' in said
    assert results(run) == {
        'test_other_input.json',
        'predictions_other_input.csv',
    }
    found = read(run / 'test_other_input.json')
    assert found['provenance']['input']['size'] == [24, 24]


@pytest.mark.parametrize(
    ('option', 'words'),
    [
        (
            'test_dataloader.dataset.pipeline.1.interpolation=area',
            'resize by bilinear (this test: area)',
        ),
        ('data_preprocessor.to_rgb=False', 'to_rgb True (this test: False)'),
        (
            'data_preprocessor.std=[1,1,1]',
            'std [127.5,127.5,127.5] (this test: [1,1,1])',
        ),
    ],
)
def test_another_resize_or_normalisation_is_refused(option, words, run, measure):
    code, said = measure(run, '--cfg-options', option)
    assert code == 2 and words in said


def test_a_file_of_before_is_tested_with_one_word_of_warning(run, measure):
    path = run / 'student.pth'
    state = torch.load(path)
    assert state['meta'].pop('input')['size'] == [16, 16]
    torch.save(state, path)
    code, said = measure(run)
    assert code == 0
    assert said.count('does not record size and resize rule') == 1


def test_other_splits_and_checkpoints_have_other_names(run, measure):
    val = ['--cfg-options', 'test_dataloader.dataset.split=val']
    assert measure(run, *val)[0] == 0
    assert results(run) == {'test_val.json', 'predictions_val.csv'}
    assert measure(run, run / 'epoch_2.pth')[0] == 0
    assert 'test_epoch_2.json' in results(run)
    assert not (run / 'test.json').exists()


def test_figures_of_another_test_are_not_written_over(run, measure):
    assert measure(run)[0] == 0
    path = run / 'student.pth'
    state = torch.load(path)
    for value in state['state_dict'].values():
        value.zero_()
    torch.save(state, path)
    before = (run / 'test.json').read_bytes()
    code, said = measure(run)
    assert code == 2 and 'run/test.json is of another test (weights_' in said
    assert (run / 'test.json').read_bytes() == before
    code, said = measure(run, '--out', 'mine.json')  # the way out
    assert code == 0
    assert read(Path('mine.json'))['predicted_classes'] == 1
    # zero weights give the first class to all: log and table say so
    assert said.count('ONE CLASS ONLY: the model predicts Acne for all 9') == 1
    assert '1 of 3, ONE CLASS ONLY' in said
    (run / 'test.json').write_text('{"top1": 0.5}')  # as of an older version
    code, said = measure(run)
    assert code == 2 and 'does not record what it is of' in said


@pytest.mark.parametrize('damage', ['half', 'row', 'gone', 'record'])
def test_predictions_are_read_whole_or_refused(damage, run, measure):
    from hkd_mm.training.test_record import read_predictions

    assert measure(run)[0] == 0
    path = run / 'predictions.csv'
    rows = read_predictions(path)
    assert len(rows) == 9 and {'sample_id', 'label', 'score_Acne'} <= set(rows[0])
    text = path.read_bytes()
    if damage == 'half':
        path.write_bytes(text[: len(text) // 2])
    elif damage == 'row':  # a whole table, of fewer images
        path.write_bytes(text[: text[:-1].rindex(b'\n') + 1])
    elif damage == 'gone':
        path.unlink()
    else:
        (run / 'test.json').write_text('{"provenance": 5')
    with pytest.raises(UserError, match=f'python tools/test.py {run}') as error:
        read_predictions(path)
    assert '\n' not in str(error.value)
    if damage != 'record':
        assert measure(run)[0] == 0  # the way out
        assert read_predictions(path) == rows


def test_work_dir_and_out_say_otherwise(run, measure):
    assert measure(run, '--work-dir', 'here')[0] == 0
    assert results(Path('here')) == {'test.json', 'predictions.csv'}
    assert measure(run, '--out', 'there.json')[0] == 0
    assert Path('there.json').is_file() and results(run) == set()


def test_what_is_no_run_is_refused_in_one_line(run, measure):
    Path('empty').mkdir()
    for argv, words in (
        (['nowhere'], 'nowhere does not exist; give the work dir'),
        (['empty'], 'empty holds no student.pth'),
        (['tiny_student.py'], 'needs a checkpoint after it; or give the fol'),
        ([run / 'student.pth'], 'give the folder of a run, such as run'),
    ):
        code, said = measure(*argv)
        assert code == 2 and words in said, said


def test_a_new_training_takes_the_figures_of_the_former_aside(
    run, measure, quick_runner
):
    from hkd_mm.training.trainer import train

    assert measure(run)[0] == 0
    forget_runs()
    train('tiny_student.py', str(run), cfg_options=['max_epochs=1', 'seed=1'])
    assert results(run) == set()
    assert results(run / 'previous_1') == {'test.json', 'predictions.csv'}
    assert measure(run)[0] == 0


def test_the_training_closes_with_the_word_on_one_class(run, quick_runner, capsys):
    from hkd_mm.training.trainer import train

    state = torch.load(run / 'student.pth')
    for value in state['state_dict'].values():
        value.zero_()
    torch.save(state, 'zero.pth')  # one answer to every image
    still = 'optim_wrapper.optimizer.lr=1e-12'
    options = [still, 'load_from=zero.pth']
    train('tiny_student.py', 'collapsed', cfg_options=options)
    said = capsys.readouterr().out
    assert read(Path('collapsed/metrics.json'))['best']['predicted_classes'] == 1
    # two validations, one warning
    assert said.count('ONE CLASS ONLY: the model predicts Acne for all 9') == 1
    assert '(ONE CLASS ONLY: it predicts' in next(
        line for line in said.splitlines() if 'Done: ' in line
    )
    forget_runs()
    train('tiny_student.py', 'fine')
    assert 'ONE CLASS ONLY: it predicts' not in capsys.readouterr().out
