import gzip
import io
import tarfile
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from seg.config import InferenceConfig
from seg.data.voc import open_images
from seg.errors import UserError
from seg.inference.predictor import Predictor
from seg.inference.voc_submission import check_archive, submit
from seg.labels import VOC, LabelSet
from tests.helpers.toy import Reader, refused, toy_sample, written

NATIVE = InferenceConfig(canvas=None)
IDS = ("2008_000006", "2010_004365", "2009_000012")
SIZES = ((40, 50), (61, 35), (33, 47))
PLACE = "results/VOC2012/Segmentation/comp6_test_cls"
COLORS = {0: (0, 0, 0), 1: (128, 0, 0), 8: (64, 0, 0), 12: (64, 0, 128), 15: (192, 128, 128), 20: (0, 64, 128)}
"""From the color map that the development kit prints."""


def truth(number):
    """A mask of the objects of a toy sample, with class 20 instead of void."""
    mask = toy_sample(number, SIZES[number])[1]
    return np.where(mask == 255, 20, mask).astype(np.uint8)


def palette_png(mask, palette=VOC.palette):
    image = Image.fromarray(mask)
    image.putpalette(np.asarray(palette, np.uint8).tobytes())
    return png(image)


def png(image, kind="PNG"):
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def write_split(root):
    (root / "JPEGImages").mkdir(parents=True)
    (root / "ImageSets" / "Segmentation").mkdir(parents=True)
    (root / "ImageSets" / "Segmentation" / "test.txt").write_text("\n".join(IDS))
    for number, name in enumerate(IDS):
        Image.fromarray(written(truth(number))).save(root / "JPEGImages" / f"{name}.png")
    return root


@pytest.fixture
def split(tmp_path):
    """A test split without masks; `Reader` predicts truth(number) for its images."""
    return open_images(write_split(tmp_path / "voc"), "test", VOC)


@pytest.fixture
def run(tmp_path, split):
    """Submit the split; return the path, the kept masks, and the number of new masks."""
    (tmp_path / "weights").write_bytes(b"the weights")

    def run(out="out", policy=NATIVE, model=None, labels=VOC, competition="comp6"):
        calls = []
        weights, ours = tmp_path / "weights", replace(split, labels=labels)
        predictor = Predictor(model or Reader(), labels, policy)
        path, kept = submit(predictor, ours, weights, tmp_path / out, competition, lambda *call: calls.append(call))
        assert calls == [(done, len(calls)) for done in range(1, len(calls) + 1)]
        return path, kept, len(calls)

    return run


def sound():
    """Name and content of the members of a correct archive."""
    return [(f"{PLACE}/{name}.png", palette_png(truth(number))) for number, name in enumerate(IDS)]


def pack(path, members):
    """An archive of (name, content) or (TarInfo, content)."""
    with tarfile.open(path, "w:gz") as tar:
        for name, content in members:
            member = tarfile.TarInfo(name) if isinstance(name, str) else name
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


# What is made.


def test_the_archive_has_the_masks_of_the_list_in_their_sizes_and_vocs_colors(tmp_path, run):
    path, kept, made = run()
    assert (path, kept, made) == (tmp_path / "out" / "results.tar.gz", 0, 3)
    with tarfile.open(path, "r:gz") as tar:
        assert tar.getnames() == sorted(f"{PLACE}/{name}.png" for name in IDS)
        tar.extractall(tmp_path / "server", filter="data")
    for number, name in enumerate(IDS):
        with Image.open(tmp_path / "server" / PLACE / f"{name}.png") as image:
            assert (image.format, image.mode, image.size) == ("PNG", "P", SIZES[number][::-1])
            np.testing.assert_array_equal(np.asarray(image), truth(number))
            colors = np.asarray(image.convert("RGB"))
        assert set(np.unique(truth(number))) <= set(COLORS)
        for index, color in COLORS.items():
            assert (colors[truth(number) == index] == color).all()


def test_the_competition_and_the_split_name_the_folder(tmp_path, run):
    path, _, _ = run(competition="comp5")
    with tarfile.open(path) as tar:
        assert {name.rsplit("/", 1)[0] for name in tar.getnames()} == {PLACE.replace("comp6", "comp5")}


def test_a_submission_has_vocs_colors(run):
    others = LabelSet(VOC.names, tuple((index, 7, 7) for index in range(21)))
    assert run("other", labels=others)[0].read_bytes() == run()[0].read_bytes()


def test_two_submissions_have_the_same_bytes(run):
    content = run("one")[0].read_bytes()
    assert content == run("two")[0].read_bytes()
    assert content[3:8] == bytes(5), "the gzip holds a name or a time"


def test_the_inference_config_is_that_of_the_evaluation(run):
    path, _, _ = run(policy=InferenceConfig(output_stride=8, scales=[1.0], flip=True, canvas=65), model=Reader(wanted=8))
    assert path.is_file()


# What is there already.


def test_existing_masks_are_kept_and_give_the_same_bytes(tmp_path, run):
    content = run()[0].read_bytes()
    path, kept, made = run()
    assert (kept, made) == (3, 0)
    assert path.read_bytes() == content


@pytest.mark.parametrize("change", ["weights", "policy", "image", "gone", "cut", "spoilt", "of another maker"])
def test_a_mask_of_other_weights_or_settings_is_made_again(tmp_path, split, run, change):
    content = run()[0].read_bytes()
    policy, mask = NATIVE, tmp_path / "out" / PLACE / f"{IDS[1]}.png"
    if change == "weights":
        (tmp_path / "weights").write_bytes(b"other weights")
    elif change == "policy":
        policy = InferenceConfig(canvas=65)
    elif change == "image":
        Image.fromarray(written(truth(1)[::-1].copy())).save(split.images[1])
    elif change == "gone":
        mask.unlink()
    elif change == "cut":
        mask.write_bytes(mask.read_bytes()[:-30])
    elif change == "spoilt":
        mask.write_bytes(spoilt(mask.read_bytes()))
    else:
        mask.write_bytes(palette_png(truth(1) * 0))
    path, kept, made = run(policy=policy)
    assert (kept, made) == ((0, 3) if change in ("weights", "policy") else (2, 1))
    with tarfile.open(path) as tar, Image.open(tar.extractfile(f"{PLACE}/{IDS[1]}.png")) as image:
        np.testing.assert_array_equal(np.asarray(image), truth(1)[::-1] if change == "image" else truth(1))
    assert (path.read_bytes() == content) == (change not in ("weights", "policy", "image"))


def test_a_stopped_run_resumes(tmp_path, split, run):
    def stop(done, total):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        submit(Predictor(Reader(), VOC, NATIVE), split, tmp_path / "weights", tmp_path / "out", on_image=stop)
    assert not (tmp_path / "out" / "results.tar.gz").exists()
    path, kept, made = run()
    assert (kept, made) == (2, 1)
    assert path.read_bytes() == run("at once")[0].read_bytes()


# What is refused before and after.


def test_weights_of_other_classes_are_refused(tmp_path, run):
    with refused(tmp_path / "weights", "has 2 classes; the evaluation server scores VOC's 21"):
        run(labels=LabelSet(("a", "b"), ((0, 0, 0), (1, 1, 1))))
    assert not (tmp_path / "out").exists()


def test_an_image_that_cannot_be_read_is_refused(tmp_path, split, run):
    split.images[1].write_bytes(split.images[1].read_bytes()[:100])
    with refused(split.images[1], "damaged or truncated"):
        run()
    assert not (tmp_path / "out" / "results.tar.gz").exists()


def test_an_archive_that_fails_its_check_is_removed(tmp_path, split, run):
    content = run()[0].read_bytes()
    with Image.open(split.images[1]) as image:
        exif = image.getexif()
        exif[0x112] = 6  # turned: the mask stands upright, but the server's truth does not
        image.save(split.images[1], exif=exif)
    with refused(tmp_path / "out" / "results.tar.gz", IDS[1], "61x35 pixels, but its image is 35x61"):
        run()
    assert (tmp_path / "out" / "results.tar.gz").read_bytes() == content


# The check of an archive that is there.


def test_an_archive_made_by_tar_passes(tmp_path, split):
    for name, content in sound():
        path = tmp_path / "here" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    for number, start in enumerate(("results", "./results", ".")):
        with tarfile.open(tmp_path / f"{number}.tgz", "w:gz") as tar:
            tar.add(tmp_path / "here" / start, start)
        check_archive(tmp_path / f"{number}.tgz", split)
        with refused(f"{PLACE}/", f"not in {PLACE.replace('comp6', 'comp5')}, where the server looks", "(and 5 more)"):
            check_archive(tmp_path / f"{number}.tgz", split, "comp5")


def replaced(content):
    return lambda members: [members[0], (members[1][0], content), members[2]]


def link(members):
    member = tarfile.TarInfo(members[1][0])
    member.type, member.linkname = tarfile.SYMTYPE, f"{IDS[0]}.png"
    return [members[0], (member, b""), members[2]]


def changed(value):
    mask = truth(1)
    mask[7, 3] = value
    return palette_png(mask)


def spoilt(content):
    """The PNG with a wrong checksum of its pixels."""
    place = content.index(b"IEND") - 5
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


SHIFTED = np.roll(VOC.palette, 1, 0)
FAULTS = {
    "missing": (lambda members: members[:1] + members[2:], f"{IDS[1]}.png: missing"),
    "extra": (lambda members: [*members, (f"{PLACE}/2012_000001.png", members[0][1])], "2012_000001.png: not an id of"),
    "not a mask": (lambda members: [*members, (f"{PLACE}/notes.txt", b"notes")], "notes.txt: not an id of"),
    "twice": (lambda members: [*members, members[1]], f"{IDS[1]}.png: appears twice"),
    "size": (replaced(palette_png(truth(1)[:, :-1])), "34x61 pixels, but its image is 35x61"),
    "turned": (replaced(palette_png(truth(1).T.copy())), "61x35 pixels, but its image is 35x61"),
    "gray": (replaced(png(Image.fromarray(truth(1)))), "mode L"),
    "RGB": (replaced(png(Image.fromarray(VOC.palette[truth(1)]))), "mode RGB"),
    "value 21": (replaced(changed(21)), "value 21 at (7, 3)"),
    "void": (replaced(changed(255)), "value 255 at (7, 3)"),
    "colors": (
        replaced(palette_png(truth(1), SHIFTED)),
        "the color of class 0 in its palette is (224, 224, 192), not VOC's (0, 0, 0)",
    ),
    "few colors": (replaced(palette_png(truth(1) * 0, VOC.palette[:16])), "the color of class 16 in its palette is none"),
    "checksum": (replaced(spoilt(palette_png(truth(1)))), "not a readable PNG"),
    "JPEG": (replaced(png(Image.fromarray(truth(1)), "JPEG")), "not a readable PNG"),
    "cut mask": (replaced(palette_png(truth(1))[:-40]), "not a readable PNG"),
    "link": (link, f"{IDS[1]}.png: not a regular file"),
    "competition": (
        lambda members: [(name.replace("comp6", "comp5"), content) for name, content in members],
        f"comp5_test_cls/{IDS[0]}.png: not in {PLACE}",
    ),
    "root": (
        lambda members: [(name.split("/", 1)[1], content) for name, content in members],
        f"VOC2012/Segmentation/comp6_test_cls/{IDS[0]}.png: not in {PLACE}",
    ),
    "out of the folder": (lambda members: [*members, (f"../{IDS[0]}.png", b"")], f"../{IDS[0]}.png: not in {PLACE}"),
    "line feed": (lambda members: [*members, (f"{PLACE}/a\nb.png", b"")], "a\\nb.png': not an id of"),
    "empty": (lambda members: [], f"{IDS[0]}.png: missing"),
}


def test_an_archive_without_fault_passes(tmp_path, split):
    check_archive(pack(tmp_path / "a.tar.gz", sound()), split)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_gives_one_line_that_names_it(tmp_path, split, fault):
    plant, message = FAULTS[fault]
    with refused(tmp_path / "a.tar.gz", message) as error:
        check_archive(pack(tmp_path / "a.tar.gz", plant(sound())), split)
    more = {"competition": 5, "root": 5, "empty": 2, "link": 1}.get(fault)
    assert str(error.value).endswith(f" (and {more} more)") if more else "more)" not in str(error.value)


def test_an_incomplete_archive_is_refused(tmp_path, split):
    whole = pack(tmp_path / "whole.tar.gz", sound()).read_bytes()
    path = tmp_path / "a.tar.gz"
    spoilt = bytearray(whole)
    spoilt[-6] ^= 1  # in the checksum at its end
    plain = gzip.decompress(whole)
    for content in (b"", b"PK\3\4", plain, bytes(spoilt), *(whole[:kept] for kept in range(1, len(whole), 97))):
        path.write_bytes(content)
        with refused(path):
            check_archive(path, split)
    rng = np.random.default_rng(5)
    sparse = tarfile.TarInfo("sparse")
    sparse.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}
    pack(path, [(sparse, b"no number\n" * 60)])
    with refused(path, "not a complete tar.gz archive"):
        check_archive(path, split)
    # A member, or what follows the last, of far more bytes than a mask has: read, they would fill the memory.
    member = tarfile.TarInfo(f"{PLACE}/{IDS[0]}.png")
    member.size = 1 << 40
    for head in (member.tobuf(), bytes(1024)):
        path.write_bytes(gzip.compress(head) + gzip.compress(bytes(1 << 25)))
        with refused(path, "not a complete tar.gz archive"):
            check_archive(path, split)
    large = pack(path, [(name, rng.integers(0, 60, 60000, np.uint8).tobytes()) for name, _ in sound()]).read_bytes()
    for place in range(20000, len(large), 499):
        path.write_bytes(large[:place] + rng.bytes(9) + large[place + 9 :])
        with refused(path):
            check_archive(path, split)
    with refused(tmp_path / "none.tar.gz", "no such archive"):
        check_archive(tmp_path / "none.tar.gz", split)


def test_a_corrupted_archive_passes_completely_or_gives_one_line(tmp_path, split):
    packed = pack(tmp_path / "whole.tar.gz", sound()).read_bytes()
    rng = np.random.default_rng(3)
    path = tmp_path / "a.tar.gz"
    for turn in range(400):
        spoilt = np.frombuffer(packed if turn % 2 else gzip.decompress(packed), np.uint8).copy()
        spoilt[rng.integers(0, min(len(spoilt), 3000), 3)] = rng.integers(0, 256, 3)
        path.write_bytes(spoilt.tobytes() if turn % 2 else gzip.compress(spoilt.tobytes(), 1))
        try:
            check_archive(path, split)
        except UserError as error:
            assert "\n" not in str(error)
