import os

import pytest

from seg.data.inventory import IMAGE_SUFFIXES, MASK_SUFFIXES, FileIndex, is_image, walk


def touch(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


def test_files_are_found_in_folders_below_and_hidden_ones_are_left_out(tmp_path):
    touch(
        tmp_path, "b.JPG", "a.tiff", "._a.tiff", ".hidden/c.png", "seq1/00.png", "seq1/deep/00.webp", "notes.txt", "seq0/00.png"
    )
    assert list(walk(tmp_path, IMAGE_SUFFIXES)) == ["a.tiff", "b.JPG", "seq0/00.png", "seq1/00.png", "seq1/deep/00.webp"]
    index = FileIndex(tmp_path, IMAGE_SUFFIXES)
    assert list(index) == ["a", "b", "seq0/00", "seq1/00", "seq1/deep/00"] and not index.doubles
    assert index["seq1/deep/00"] == tmp_path / "seq1" / "deep" / "00.webp"
    assert set(FileIndex(tmp_path, MASK_SUFFIXES)) == {"a", "seq0/00", "seq1/00"}


def test_ids_may_contain_dots_and_spaces(tmp_path):
    touch(tmp_path, "IMG_1_jpg.rf.0a1b.jpg", "my photo 1.png")
    assert set(FileIndex(tmp_path, IMAGE_SUFFIXES)) == {"IMG_1_jpg.rf.0a1b", "my photo 1"}


def test_files_with_the_same_id_are_distinguished_by_name(tmp_path):
    touch(tmp_path, "x0.jpg", "x0.png", "x1.jpg", "seq/x0.jpg")
    index = FileIndex(tmp_path, IMAGE_SUFFIXES)
    assert set(index) == {"x0", "x1", "seq/x0"} and set(index.doubles) == {"x0"}
    assert index.ambiguous("x0").startswith(f"{tmp_path}/x0.jpg: x0.png has the same name")


def test_a_link_to_a_parent_folder_does_not_loop_forever(tmp_path):
    touch(tmp_path, "a/x.png")
    os.symlink(tmp_path, tmp_path / "a" / "up")
    assert len(list(walk(tmp_path, IMAGE_SUFFIXES))) < 20


@pytest.mark.parametrize("folder", [".", "./", "sub/.."])
def test_a_folder_may_be_named_in_any_way(tmp_path, monkeypatch, folder):
    touch(tmp_path, "x.png", "sub/y.png")
    monkeypatch.chdir(tmp_path)
    index = FileIndex(folder, IMAGE_SUFFIXES)
    assert list(index) == ["x", "sub/y"] and all(path.is_file() for path in index.values())


def test_an_image_is_recognized_by_its_suffix():
    assert is_image("a/x.JPG") and is_image("x.heic") and not is_image("a/._x.jpg") and not is_image("x.txt")
