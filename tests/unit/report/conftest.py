import pytest

from seg.report.page import read_against, write_report
from tests.helpers.reports import SETTINGS, better, evaluation, various


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    """The pages of an evaluation, and of a better one against it."""
    folder = tmp_path_factory.mktemp("reports")
    curves = {"loss": [(10, 2.0), (20, 1.0)], "miou": [(20, 0.5)]}
    scores, pictures, boundary = evaluation()
    first = write_report(folder / "first", scores, SETTINGS, pictures, boundary, curves)
    second = write_report(folder / "second", *better(), against=read_against(folder / "first"))
    return first, second


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    """The page of 30 images of several shapes; see `various`."""
    curves = {
        "loss": [(n, 3.0 / n) for n in range(25_000, 1_000_001, 25_000)],
        "lr": [(n, 1e-6 * (1 - n / 1_000_000)) for n in range(25_000, 1_000_001, 25_000)],
        "miou": [(500_000, 0.25), (1_000_000, 0.5)],
    }
    folder = tmp_path_factory.mktemp("wide")
    scores, pictures = various()
    other = write_report(folder / "other", scores, {"weights": "other"}, pictures)
    return write_report(folder, scores, SETTINGS, pictures, curves=curves, against=read_against(other.parent))
