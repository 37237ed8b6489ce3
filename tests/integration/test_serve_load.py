"""The proof tests/stress/serve_load.py, in short."""

from tests.stress.serve_load import load


def test_under_load_every_mask_is_that_of_predict_and_every_refusal_has_its_status(tmp_path, capsys):
    assert load(tmp_path, count=16, at_once=8, wrong=10, large=2, cut=2) == []
    assert "image: 200 x 16" in capsys.readouterr().out
