import pytest

from seg.config import from_dict
from tests.helpers.configs import MODEL
from tests.helpers.toy import toy_voc

SMALL = {
    "model": MODEL,
    "data": {"train": "train", "val": "val", "crop_size": 33, "num_workers": 0},
    "train": {"iterations": 4, "batch_size": 2, "learning_rate": 0.01, "validate_every": 4, "log_every": 1},
    "evaluate": {"canvas": None},
}


@pytest.fixture
def config(tmp_path):
    """Make the configuration of a small run of four iterations, given its name and overrides."""
    toy_voc(tmp_path / "voc")

    def make(name, *overrides):
        places = [f"data.root={tmp_path / 'voc'}", f"runs={tmp_path / 'runs'}", f"name={name}"]
        return from_dict(SMALL, "test", [*places, *overrides])

    return make
