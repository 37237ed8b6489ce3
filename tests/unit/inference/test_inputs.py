from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from seg.inference.inputs import find_images, find_inputs
from tests.helpers.toy import refused, toy_voc


def put(path, content=b""):
    """A file; an image if no content is given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if content:
        path.write_bytes(content)
    else:
        Image.fromarray(np.zeros((4, 5, 3), np.uint8)).save(path)
    return path


def test_an_image_is_found_under_its_name(tmp_path):
    path = put(tmp_path / "deep" / "a.png")
    assert find_images([path]) == find_images([str(path)]) == [(path, Path("a.png"))]


def test_a_folder_gives_its_images_and_those_of_its_subfolders(tmp_path):
    for name in ("b.png", "a.JPG", "x/a.png", "x/y/c.webp"):
        put(tmp_path / "in" / name)
    (tmp_path / "in" / "notes.txt").write_text("x")
    (tmp_path / "in" / "x" / "mask.npy").write_bytes(b"x")
    places = ["a.JPG", "b.png", "x/a.png", "x/y/c.webp"]
    assert find_images([tmp_path / "in"]) == [(tmp_path / "in" / place, Path(place)) for place in places]


def test_a_glob_gives_the_images_that_match_sorted(tmp_path):
    for name in ("b1.png", "a1.png", "a2.png", "x/a3.png"):
        put(tmp_path / name)
    (tmp_path / "a4.txt").write_text("x")
    assert [image.name for image, _ in find_images([tmp_path / "a*"])] == ["a1.png", "a2.png"]
    assert [image.name for image, _ in find_images([tmp_path / "**" / "a*.png"])] == ["a1.png", "a2.png", "a3.png"]


def test_a_name_with_brackets_is_a_file_before_it_is_a_pattern(tmp_path):
    path = put(tmp_path / "a[1].png")
    assert find_images([path]) == [(path, Path("a[1].png"))]


def test_a_list_holds_paths_from_the_working_folder_or_from_its_own(tmp_path, monkeypatch):
    put(tmp_path / "here" / "a.png"), put(tmp_path / "lists" / "b.png"), put(tmp_path / "c.png")
    monkeypatch.chdir(tmp_path / "here")
    path = tmp_path / "lists" / "mine.txt"
    path.write_text(f"a.png\nb.png\n\n  {tmp_path / 'c.png'}  \n")
    found = find_images([path])
    assert [image.resolve() for image, _ in found] == [tmp_path / p for p in ("here/a.png", "lists/b.png", "c.png")]
    assert [str(place) for _, place in found] == ["a.png", "b.png", "c.png"]


def test_a_voc_split_is_a_list_of_ids(tmp_path):
    root = toy_voc(tmp_path / "voc")
    found = find_images([root / "ImageSets" / "Segmentation" / "val.txt"])
    assert [image.resolve() for image, _ in found] == [root / "JPEGImages" / f"toy_00{n}.jpg" for n in (6, 7, 8)]
    assert [str(place) for _, place in found] == ["toy_006.jpg", "toy_007.jpg", "toy_008.jpg"]


def test_inputs_are_read_in_order(tmp_path):
    a, b = put(tmp_path / "a.png"), put(tmp_path / "folder" / "b.png")
    assert [image for image, _ in find_images([tmp_path / "folder", a])] == [b, a]


def test_an_input_without_an_image_is_refused(tmp_path):
    put(tmp_path / "a.png")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty.txt").write_text("\n")
    cases = {
        "none.png": "no such image",
        "empty": "no images or videos",
        "empty.txt": "the list is empty",
        "*.jpg": "no such image",
    }
    for item, wanted in cases.items():
        with refused(tmp_path / item, wanted):
            find_images([tmp_path / "a.png", tmp_path / item])


def test_a_file_whose_name_is_not_that_of_an_image_is_refused(tmp_path):
    (tmp_path / "a.doc").write_text("x")
    with refused(tmp_path / "a.doc", "its suffix is not that of an image", ".jpg"):
        find_images([tmp_path / "a.doc"])


def test_a_list_without_an_image_is_refused(tmp_path):
    for line in ("2007_000033", "x" * 100_000, "a\0b"):
        (tmp_path / "list.txt").write_text(f"{line}\n")
        with refused(tmp_path / "list.txt", line[:1]):
            find_images([tmp_path / "list.txt"])


def test_a_list_that_is_not_text_is_refused(tmp_path):
    (tmp_path / "list.txt").write_bytes(b"\xff\xd8\xff\xe0")
    with refused(tmp_path / "list.txt"):
        find_images([tmp_path / "list.txt"])


def test_hidden_files_and_folders_are_left_out(tmp_path):
    for name in ("a.png", "._b.png", ".thumbnails/c.png", "x/.d.jpg"):
        put(tmp_path / name, b"x")
    assert [place for _, place in find_images([tmp_path])] == [Path("a.png")]
    assert [place for _, place in find_images([tmp_path / "**" / "*"])] == [Path("a.png")]
    with refused(tmp_path / "._b.png", "hidden"):
        find_images([tmp_path / "._b.png"])


def test_comments_in_a_list_are_left_out_but_a_name_may_start_with_one(tmp_path):
    put(tmp_path / "a.png"), put(tmp_path / "#1.png")
    (tmp_path / "list.txt").write_text("# the first two\n\na.png\n#1.png\n#gone.png\n")
    assert [str(place) for _, place in find_images([tmp_path / "list.txt"])] == ["a.png", "#1.png"]


def test_ids_of_a_split_may_name_folders_and_images_of_any_suffix(tmp_path):
    put(tmp_path / "JPEGImages" / "seq1" / "00.tif"), put(tmp_path / "JPEGImages" / "seq2" / "00.png")
    path = put(tmp_path / "ImageSets" / "Segmentation" / "val.txt", b"seq1/00\nseq2/00\n")
    assert [str(place) for _, place in find_images([path])] == ["seq1/00.tif", "seq2/00.png"]
    put(tmp_path / "JPEGImages" / "seq2" / "00.jpg")
    with refused("seq2/00.jpg: 00.png has the same name"):
        find_images([path])


def test_equal_names_in_a_list_or_pattern_keep_their_folders(tmp_path):
    for name in ("a/0.png", "b/0.png", "b/c/0.png"):
        put(tmp_path / name)
    assert [str(place) for _, place in find_images([tmp_path / "**" / "*.png"])] == ["a/0.png", "b/0.png", "b/c/0.png"]
    (tmp_path / "list.TXT").write_text("b/0.png\nb/c/0.png\n")
    assert [str(place) for _, place in find_images([tmp_path / "list.TXT"])] == ["0.png", "c/0.png"]


@pytest.mark.parametrize("suffix", [".mp4", ".MTS", ".m2ts", ".3gp", ".flv", ".ogv"])
def test_videos_are_found_by_name_in_folders_patterns_and_lists(tmp_path, suffix):
    image, video = put(tmp_path / "a.png"), put(tmp_path / "in" / f"v{suffix}", b"x")
    assert find_inputs([video, image]).videos == [(str(video), Path(video.name))]
    assert find_inputs([tmp_path]) == ([(image, Path("a.png"))], [(str(video), Path("in") / video.name)])
    assert find_inputs([tmp_path / "in" / "*"]).videos == [(str(video), Path(video.name))]
    (tmp_path / "list.txt").write_text(f"{video}\n{image}\n")
    found = find_inputs([tmp_path / "list.txt"])
    assert found == ([(image, Path("a.png"))], [(str(video), Path(video.name))])


def test_typescript_is_no_video(tmp_path):
    put(tmp_path / "code.ts", b"const x = 1"), put(tmp_path / "clip.ts", b"G\x40\x00\x10")
    assert [str(place) for _, place in find_inputs([tmp_path]).videos] == ["clip.ts"]


def test_videos_are_distinguished_from_images(tmp_path):
    names = [str(put(tmp_path / name, b"x")) for name in ("a.MP4", "b.png")]
    found = find_inputs([*names, "camera:0"])
    assert [video for video, _ in found.videos] == [names[0], "camera:0"] and len(found.images) == 1
    with refused("none.mp4", "no such"):
        find_images([tmp_path / "none.mp4"])
    with refused("a.MP4", "no image"):
        find_images(names[:1])
    put(tmp_path / "a.avi", b"x")
    with refused("a.avi", "a.MP4", "two folders"):
        find_inputs([names[0], tmp_path / "a.avi"])
