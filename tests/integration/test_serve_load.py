"""tests/stress/serve_load.py with 30 requests."""

import pytest

from tests.stress.serve_load import load

pytestmark = pytest.mark.slow


def test_under_load_masks_equal_those_of_predict_and_errors_have_their_status(tmp_path, capsys):
    assert load(tmp_path, count=16, at_once=8, wrong=10, large=2, cut=2) == []
    assert "image: 200 x 16" in capsys.readouterr().out
