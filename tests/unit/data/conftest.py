import pytest

from tests.helpers.toy import toy_voc


@pytest.fixture
def root(tmp_path):
    """A data set of six training and three validation images."""
    return toy_voc(tmp_path / "voc")
