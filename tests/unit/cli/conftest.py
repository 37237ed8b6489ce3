import pytest
import yaml

from seg.cli.main import main
from tests.helpers.configs import CONFIG
from tests.helpers.toy import toy_voc

WEIGHTS = "runs/small/best.safetensors"


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with a data set `voc` and a configuration `small.yaml`, made the working directory."""
    monkeypatch.chdir(tmp_path)
    toy_voc(tmp_path / "voc")
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(CONFIG))
    return tmp_path


@pytest.fixture
def weights(place):
    """The best weights of a run `small` in `place`."""
    assert main(["train", "small.yaml", "data.root=voc", "--quiet"]) == 0
    return WEIGHTS
