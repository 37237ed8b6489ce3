import shlex
import sys
from types import SimpleNamespace

import pytest

from seg.errors import UserError
from seg.opencv import check_opencv
from tests.helpers.packaging import required


def test_the_installed_opencv_is_accepted():
    check_opencv()


@pytest.mark.parametrize(
    ("module", "wanted"),
    [
        (SimpleNamespace(__version__="4.11.0"), "OpenCV 4.11.0 is installed"),
        (SimpleNamespace(), "OpenCV unknown version is installed"),
        (None, "OpenCV cannot be imported"),
    ],
)
def test_another_opencv_gives_the_commands_that_repair_it(monkeypatch, module, wanted):
    monkeypatch.setitem(sys.modules, "cv2", module)
    with pytest.raises(UserError) as error:
        check_opencv()
    line = str(error.value)
    assert wanted in line
    words = shlex.split(line[line.index("pip uninstall") :])
    assert words[-1].split(">=")[0] in required()
