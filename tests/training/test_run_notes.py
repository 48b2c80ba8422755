# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""What a run has noted of itself, whole and damaged."""

import json

import pytest

from hkd_mm.training.run_notes import (
    STATE,
    read_begun,
    read_finished,
    read_stages,
    read_state,
    update_state,
)

WHOLE = dict(
    fingerprint=dict(data=dict(split_hash='a')),
    stages=['there'],
    result=dict(checkpoint='best.pth', classes=['A']),
)


def test_what_is_noted_is_read(tmp_path):
    assert read_state(tmp_path) == {} and read_begun(tmp_path) is None
    update_state(tmp_path, **WHOLE)
    assert read_state(tmp_path) == WHOLE and read_stages(tmp_path) == ['there']
    assert read_finished(tmp_path) is None  # its checkpoint is gone
    (tmp_path / 'best.pth').touch()
    assert read_finished(tmp_path) == WHOLE['result']
    update_state(tmp_path, result=None)
    assert read_finished(tmp_path) is None


@pytest.mark.parametrize(
    'text',
    [
        '',
        '[]',
        '5',
        '[' * 5000,
        json.dumps(WHOLE)[:-3],
        json.dumps(dict(WHOLE, fingerprint=5)),
        json.dumps(dict(WHOLE, fingerprint=dict(data=5))),
        json.dumps(dict(WHOLE, stages='there')),
        json.dumps(dict(WHOLE, result=dict(checkpoint=5))),
        json.dumps(dict(WHOLE, result=dict(checkpoint='../best.pth'))),
        json.dumps(dict(WHOLE, result=['best.pth'])),
    ],
)
def test_what_is_damaged_is_told_and_written_anew(text, tmp_path):
    (tmp_path / STATE).write_text(text)
    with pytest.warns(UserWarning, match=STATE):
        assert read_finished(tmp_path) is None
    with pytest.warns(UserWarning):
        assert read_begun(tmp_path) is None
    with pytest.warns(UserWarning):
        update_state(tmp_path, **WHOLE)
    assert read_state(tmp_path) == WHOLE
