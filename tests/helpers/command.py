"""Running the command within a test, and what it leaves."""

import shutil

from seg.cli.main import main


def run(capsys, *arguments) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of `seg ARGUMENTS`."""
    code = main([str(a) for a in arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def the_line(capsys, *arguments) -> str:
    """What a mistaken command prints: one line, with exit code 2."""
    code, out, err = run(capsys, *arguments)
    assert code == 2
    assert out == ""
    assert err.count("\n") == 1, err
    assert err.startswith(("seg: ", f"seg {arguments[0]}"))
    return err


def first(folder):
    """The first file of a folder."""
    return sorted(folder.iterdir())[0]


def truncate(path, kept: int) -> None:
    path.write_bytes(path.read_bytes()[:kept])


def masks(place):
    """The folder of masks of the data set `voc`."""
    return next(folder for folder in (place / "voc").iterdir() if folder.name.startswith("SegmentationClass"))


def truth_of_val(place):
    """A new folder with the masks of the list val."""
    folder = place / "truth"
    folder.mkdir()
    for name in (place / "voc" / "ImageSets" / "Segmentation" / "val.txt").read_text().split():
        shutil.copy(masks(place) / f"{name}.png", folder)
    return folder
