"""Cityscapes from archives laid out as the official ones, with small images."""

import io
import json
import os
import shutil
import stat
import zipfile

import numpy as np
import pytest
from PIL import Image

from seg import archives
from seg.config import load
from seg.data.prepare import cityscapes
from seg.data.voc import open_split
from seg.labels import load as load_labels
from tests.helpers.command import run, the_line
from tests.helpers.toy import picture, refused

TOWNS = {"train": ("aachen", "bochum"), "val": ("frankfurt",), "test": ("berlin",)}
# Of cityscapesScripts' labels.py: the train id of each label id; the others are ignored.
TRAIN_ID = {7: 0, 8: 1, 11: 2, 12: 3, 13: 4, 17: 5, 19: 6, 20: 7, 21: 8, 22: 9, 23: 10, 24: 11, 25: 12, 26: 13, 27: 14, 28: 15,
            31: 16, 32: 17, 33: 18}  # fmt: skip


def png(array) -> bytes:
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG")
    return file.getvalue()


def label_ids(number) -> np.ndarray:
    """All label ids from 0 to 33, in an order of the image's own."""
    return np.random.default_rng(number).permutation(np.arange(36 * 68) % 34).astype(np.uint8).reshape(36, 68)


def write(path, files):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in files.items():
            file.writestr(name, content)


@pytest.fixture
def city(tmp_path, monkeypatch):
    """A folder with the two archives; two images a town."""
    monkeypatch.chdir(tmp_path)
    images, masks = {"README": b"read", "license.txt": b"free"}, {"README": b"read", "license.txt": b"free"}
    number = 0
    for split, towns in TOWNS.items():
        for town in towns:
            for frame in range(2):
                name = f"{split}/{town}/{town}_{frame:06d}_000019"
                mask = label_ids(number) if split != "test" else np.full((36, 68), 3, np.uint8)
                images[f"leftImg8bit/{name}_leftImg8bit.png"] = png(picture(36, 68, number))
                masks[f"gtFine/{name}_gtFine_labelIds.png"] = png(mask)
                masks[f"gtFine/{name}_gtFine_color.png"] = masks[f"gtFine/{name}_gtFine_instanceIds.png"] = b"not needed"
                masks[f"gtFine/{name}_gtFine_polygons.json"] = b"{}"
                number += 1
    folder = tmp_path / "city"
    folder.mkdir()
    write(folder / "leftImg8bit_trainvaltest.zip", images)
    write(folder / "gtFine_trainvaltest.zip", masks)
    return folder


def test_two_archives_become_a_data_set_with_the_19_classes(city, capsys):
    code, out, err = run(capsys, "data", "prepare", "cityscapes", "--cityscapes", "city", "--json", "made.json")
    assert code == 0 and "16 files extracted; images of each split: train 4, val 2, test 2" in out
    assert "extract 1/1" in err and "prepare 8/8" in err
    assert "seg train cityscapes_xception65 model.weights=xception65_imagenet data.root=city/voc" in out
    numbers = {"path": "city/voc", "images": {"train": 4, "val": 2, "test": 2}, "extracted": 16}
    with open("made.json") as file:
        assert json.load(file) == numbers
    assert all(path.name.endswith("_labelIds.png") for path in (city / "gtFine").rglob("*.*"))
    table = np.full(256, 255, np.uint8)
    table[list(TRAIN_ID)] = list(TRAIN_ID.values())
    number = 0
    for split, towns in TOWNS.items():
        found = open_split(city / "voc", split, load_labels(load("cityscapes_xception65").data.labels))
        assert list(found.ids) == [f"{town}_{frame:06d}_000019" for town in towns for frame in range(2)]
        for index in range(len(found.ids)):
            np.testing.assert_array_equal(found.image(index), picture(36, 68, number))
            wanted = table[label_ids(number)] if split != "test" else np.full((36, 68), 255)
            np.testing.assert_array_equal(found.mask(index), wanted)
            number += 1
    assert all(path.is_symlink() for path in (city / "voc" / "JPEGImages").iterdir())


def test_archives_of_another_place_are_read_and_not_needed_again(city, capsys):
    given = [city / "gtFine_trainvaltest.zip", city / "leftImg8bit_trainvaltest.zip"]
    command = "data", "prepare", "cityscapes", "--cityscapes", "other"
    assert run(capsys, *command, "--from-archive", *given, "--quiet")[::2] == (0, "")
    shutil.rmtree(city)
    assert "0 files extracted; images of each split: train 4, val 2, test 2" in run(capsys, *command)[1]


def test_an_interrupted_run_continues_with_the_next_split(city, monkeypatch):
    real, seen = cityscapes.extract_zip, []

    def interrupted(archive, name, *rest):
        if len(seen) == 2:  # killed: what it was writing stays
            (city / "leftImg8bit" / ".test.extracting").mkdir()
            raise KeyboardInterrupt
        seen.append(name)
        real(archive, name, *rest)

    monkeypatch.setattr(cityscapes, "extract_zip", interrupted)
    with pytest.raises(KeyboardInterrupt):
        cityscapes.unpack(city)
    assert seen == ["leftImg8bit/train", "leftImg8bit/val"] and not (city / "leftImg8bit" / "test").exists()
    before = {path: path.stat().st_mtime_ns for path in (city / "leftImg8bit").rglob("*.png")}
    monkeypatch.setattr(cityscapes, "extract_zip", real)
    assert cityscapes.unpack(city) == 10
    assert len(before) == 6 and all(path.stat().st_mtime_ns == time for path, time in before.items())
    assert sorted(os.listdir(city / "leftImg8bit")) == ["test", "train", "val"]


def broken(path):
    content = bytearray(path.read_bytes())
    place = content.index(b"frankfurt_000000_000019_leftImg8bit.png") + 60
    content[place : place + 40] = bytes(40)
    path.write_bytes(content)


def cut(path):
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize("damage", [broken, cut])
def test_a_damaged_archive_is_refused_and_half_a_split_never_appears(city, capsys, damage):
    archive = city / "leftImg8bit_trainvaltest.zip"
    damage(archive)
    line = the_line(capsys, "data", "prepare", "cityscapes", "--cityscapes", "city", "--quiet")
    assert f"city/{archive.name}: not a whole zip archive" in line and "download it again" in line
    assert not (city / "voc").exists()
    assert damage is cut or os.listdir(city / "leftImg8bit") == ["train"]


EVIL = (
    "../out.png",
    "/leftImg8bit/out.png",
    "leftImg8bit/train/../../../out_leftImg8bit.png",
    r"leftImg8bit\train\aachen\x_leftImg8bit.png",
)


@pytest.mark.parametrize("name", EVIL)
def test_a_hostile_archive_is_refused_before_anything_is_written(city, name):
    archive = city / "leftImg8bit_trainvaltest.zip"
    with zipfile.ZipFile(archive, "a") as file:
        file.writestr(name, b"bad")
    with refused(archive, "leads out", "not safe"):
        cityscapes.unpack(city)
    assert sorted(os.listdir(city)) == ["gtFine_trainvaltest.zip", "leftImg8bit_trainvaltest.zip"]


def test_links_and_too_large_files_are_refused(city, monkeypatch):
    archive = city / "gtFine_trainvaltest.zip"
    monkeypatch.setattr(cityscapes, "LIMIT", 1000)
    with refused("leftImg8bit_trainvaltest.zip", "more than 1,000 bytes"):
        cityscapes.unpack(city)
    link = zipfile.ZipInfo("gtFine/train/aachen/x_gtFine_labelIds.png")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(archive, "a") as file:
        file.writestr(link, "/etc/passwd")
    with refused(archive, "x_gtFine_labelIds.png", "is a link"):
        archives.zipped_files(archive, lambda path: path.name.endswith("labelIds.png"), 10**6)


def test_what_is_missing_is_named_with_its_remedy(city, tmp_path):
    with refused("leftImg8bit_trainvaltest.zip", "not found", "www.cityscapes-dataset.com", "--from-archive"):
        cityscapes.unpack(tmp_path / "empty")
    with refused("--from-archive", "0 files of the name leftImg8bit_*.zip"):
        cityscapes.unpack(tmp_path / "empty", [city / "gtFine_trainvaltest.zip"] * 2)
    write(city / "leftImg8bit_trainvaltest.zip", {"leftImg8bit/train/aachen/a_leftImg8bit.png": b"x"})
    with refused("leftImg8bit_trainvaltest.zip", "no files leftImg8bit/val/CITY/*_leftImg8bit.png"):
        cityscapes.unpack(city)


def test_a_full_disk_is_found_before_anything_is_written(city, monkeypatch):
    usage = shutil.disk_usage(city)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage._replace(free=10))
    with refused("are needed", "--cityscapes"):
        cityscapes.unpack(city)
    assert not (city / "leftImg8bit").exists()
