import shutil

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat
from scipy.sparse import csc_matrix

from seg.data.prepare import sbd
from seg.data.prepare.sbd import prepare_trainaug, read_sbd_mask
from seg.data.voc import open_split
from seg.labels import VOC
from tests.helpers.toy import refused, toy_sample

TRAIN, VAL = [f"toy_{i:03d}" for i in range(6)], ["toy_006", "toy_007", "toy_008"]
ONLY_SBD = ["sbd_100", "sbd_101", "sbd_102", "a_103"]
TRAINAUG = sorted(TRAIN + ONLY_SBD)


def clean(number):
    """A mask as SBD has it: no void."""
    mask = toy_sample(number)[1]
    return np.where(mask == 255, 0, mask).astype(np.uint8)


def save_mat(path, mask, compressed=True, **others):
    boundaries = np.empty((20, 1), object)
    for index in range(20):
        boundaries[index, 0] = csc_matrix(mask == index + 1)
    fields = {"Boundaries": boundaries, "CategoriesPresent": np.unique(mask), "Segmentation": mask}
    savemat(path, {"GTcls": fields | others}, do_compression=compressed)
    return path


@pytest.fixture
def sets(root):
    """VOC with 6 + 3 images, and SBD with 4 more, 2 of VOC's train and 1 of VOC's val, with other masks."""
    folder = root.parent / "sbd"
    (folder / "cls").mkdir(parents=True)
    for name in ONLY_SBD:
        number = int(name[-3:])
        Image.fromarray(toy_sample(number)[0]).save(root / "JPEGImages" / f"{name}.jpg")
        save_mat(folder / "cls" / f"{name}.mat", clean(number))
    for name in ("toy_000", "toy_005", "toy_007"):
        save_mat(folder / "cls" / f"{name}.mat", np.full((48, 64), 20, np.uint8))
    (folder / "train.txt").write_text("sbd_102\nsbd_100\ntoy_005\ntoy_007\n")
    (folder / "val.txt").write_text("toy_000\na_103\nsbd_101\n")
    return root, folder


def prepare(sets, **options):
    return prepare_trainaug(*sets, expected=10, **options)


def aug(sets, name):
    return sets[0] / "SegmentationClassAug" / f"{name}.png"


def the_list(sets):
    return sets[0] / "ImageSets" / "Segmentation" / "trainaug.txt"


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("kind", [np.uint8, np.float64, np.int16])
def test_a_mask_is_what_matlab_saved(tmp_path, compressed, kind):
    mask = clean(1)[:, :41]
    got = read_sbd_mask(save_mat(tmp_path / "a.mat", mask.astype(kind), compressed))
    assert got.dtype == np.uint8 and got.flags.c_contiguous
    np.testing.assert_array_equal(got, mask)


@pytest.mark.parametrize("place", range(3))
def test_a_mask_is_found_at_any_place_in_the_struct_and_after_other_variables(tmp_path, place):
    names = ["Boundaries", "CategoriesPresent"]
    names.insert(place, "Segmentation")
    # A name of up to 4 letters and one of more are stored in different ways; so are contents of up to 4 bytes and of more.
    fields = {name: np.array([[3, 4]], np.uint8) for name in names}
    savemat(tmp_path / "a.mat", {"a": np.ones(9), "GTcls": fields, "a_long_name": "text"})
    np.testing.assert_array_equal(read_sbd_mask(tmp_path / "a.mat"), [[3, 4]])


@pytest.mark.parametrize("label", [21, 255, -1, 2.5, np.nan])
def test_a_label_that_sbd_does_not_have_is_refused_with_its_position(tmp_path, label):
    mask = clean(1).astype(float)
    mask[7, 11] = mask[30, 2] = label
    with refused(tmp_path / "a.mat", f"label {label}", "at (7, 11)"):
        read_sbd_mask(save_mat(tmp_path / "a.mat", mask))


@pytest.mark.parametrize(
    "variables, message",
    [
        ({"other": 1}, "no struct GTcls"),
        ({"GTcls": np.ones((4, 4), np.uint8)}, "no struct GTcls"),
        ({"GTcls": {"Segmentations": np.ones((4, 4), np.uint8)}}, "no field Segmentation"),
        ({"GTcls": {"Segmentation": "text"}}, "no matrix of numbers"),
        ({"GTcls": {"Segmentation": np.ones((4, 4, 2), np.uint8)}}, "no matrix of numbers"),
        ({"GTcls": {"Segmentation": {"a": 1}}}, "not a readable SBD mask"),
    ],
)
def test_a_file_of_other_content_is_refused(tmp_path, variables, message):
    savemat(tmp_path / "a.mat", variables)
    with refused(tmp_path / "a.mat", message, "extract it again"):
        read_sbd_mask(tmp_path / "a.mat")


def test_a_decompression_bomb_is_refused(tmp_path, monkeypatch):
    path = save_mat(tmp_path / "a.mat", np.zeros((3000, 3000), np.uint8))
    assert path.stat().st_size < 100_000
    read_sbd_mask(path)
    monkeypatch.setattr(sbd, "LIMIT", 2**20)
    with refused(path, "too large"):
        read_sbd_mask(path)
    path.write_bytes(bytes(2**20 + 1))
    with refused(path, "more than 1 MiB"):
        read_sbd_mask(path)


@pytest.mark.parametrize("compressed", [True, False])
def test_damage_anywhere_in_a_file_gives_a_mask_or_one_clear_line(tmp_path, compressed):
    rng = np.random.default_rng(0)
    path = save_mat(tmp_path / "a.mat", clean(1)[20:33, :17], compressed)
    content, outcomes = path.read_bytes(), set()
    for turn in range(600):
        damaged = bytearray(content)
        # Half of it at the start, where the sizes are.
        damaged[rng.integers(len(damaged) if turn % 2 else min(600, len(damaged)))] = rng.integers(256)
        path.write_bytes(damaged if turn % 3 else damaged[: rng.integers(len(damaged))])
        try:
            outcomes.add(read_sbd_mask(path).size > 0)
        except Exception:
            with refused(path):
                read_sbd_mask(path)
            outcomes.add("refused")
    assert outcomes == {True, "refused"}


@pytest.mark.parametrize("compressed", [True, False])
def test_a_file_cut_short_anywhere_is_refused(tmp_path, compressed):
    path = save_mat(tmp_path / "a.mat", clean(1)[20:33, :17], compressed)
    content = path.read_bytes()
    for length in range(0, len(content), 97):
        path.write_bytes(content[:length])
        with refused(path, "damaged or truncated"):
            read_sbd_mask(path)


def test_trainaug_is_all_but_val_in_order_and_the_masks_are_vocs_own_first(sets):
    seen = []
    made = prepare(sets, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(done, 13) for done in range(1, 14)]
    assert (made.ids, made.written, made.replaced, made.kept, made.path) == (10, 13, 0, 0, the_list(sets))
    assert the_list(sets).read_text().splitlines() == TRAINAUG
    assert sorted(path.stem for path in aug(sets, "").parent.iterdir()) == sorted(TRAINAUG + VAL)
    for split, names in (("trainaug", TRAINAUG), ("val", VAL)):
        data = open_split(sets[0], split, VOC)
        assert list(data.ids) == names
        for index, name in enumerate(names):
            number = int(name[-3:])
            wanted = toy_sample(number)[1] if name.startswith("toy") else clean(number)
            assert data.masks[index] == aug(sets, name)
            np.testing.assert_array_equal(data.sample(index)[1], wanted)
            with Image.open(data.masks[index]) as png:
                assert png.mode == "P" and bytes(png.getpalette()) == VOC.palette.tobytes()


def test_a_second_run_keeps_correct_files_and_replaces_the_others(sets):
    prepare(sets)
    before = {path: path.stat().st_mtime_ns for path in aug(sets, "").parent.iterdir()}
    Image.fromarray(np.full((48, 64), 3, np.uint8)).save(aug(sets, "toy_003"))
    aug(sets, "sbd_101").write_bytes(aug(sets, "sbd_101").read_bytes()[:80])
    aug(sets, "toy_008").unlink()
    gray = Image.fromarray(clean(100))
    gray.save(aug(sets, "sbd_100"))
    before[aug(sets, "sbd_100")] = aug(sets, "sbd_100").stat().st_mtime_ns
    the_list(sets).write_text("toy_000\n")
    made = prepare(sets)
    assert (made.written, made.replaced, made.kept) == (1, 2, 10)
    after = {path: path.stat().st_mtime_ns for path in before}
    assert {path.stem for path in before if after[path] != before[path]} == {"toy_003", "sbd_101", "toy_008"}
    assert the_list(sets).read_text().splitlines() == TRAINAUG
    np.testing.assert_array_equal(open_split(sets[0], "train", VOC).mask(3), toy_sample(3)[1])


def test_a_changed_source_is_read_again(sets):
    prepare(sets)
    save_mat(sets[1] / "cls" / "sbd_100.mat", clean(5))
    assert prepare(sets).replaced == 1
    np.testing.assert_array_equal(np.array(Image.open(aug(sets, "sbd_100"))), clean(5))


def test_the_list_of_trainaug_is_written_last(sets):
    (sets[1] / "cls" / "sbd_102.mat").write_bytes(b"damaged")
    with refused("sbd_102.mat", "not a readable SBD mask"):
        prepare(sets)
    assert not the_list(sets).exists() and aug(sets, "toy_000").exists()
    save_mat(sets[1] / "cls" / "sbd_102.mat", clean(102))
    made = prepare(sets)
    assert made.written + made.kept == 13 and made.kept >= 9 and the_list(sets).exists()


def test_another_number_of_ids_is_refused_with_the_counts(sets):
    with refused(
        "trainaug would have 10 ids, not 10,582",
        "VOC train 6 (1,464), VOC val 3 (1,449), SBD train 4 (8,498), SBD val 3 (2,857)",
    ):
        prepare_trainaug(*sets)
    assert not aug(sets, "").parent.exists()


@pytest.mark.parametrize(
    "spoil, parts",
    [
        (lambda voc, sbd: shutil.rmtree(sbd), ["sbd/train.txt: no such list", "benchmark_RELEASE/dataset"]),
        (lambda voc, sbd: shutil.rmtree(voc), ["ImageSets/Segmentation/train.txt: no such list", "VOCdevkit/VOC2012"]),
        (lambda voc, sbd: shutil.rmtree(sbd / "cls"), ["cls: no such folder"]),
        (lambda voc, sbd: (sbd / "cls/a_103.mat").unlink(), ["a_103.mat: no such file; extract"]),
        (lambda voc, sbd: [p.unlink() for p in (sbd / "cls").glob("sbd_*")], ["sbd_100.mat: no such file, and 2 more"]),
        (lambda voc, sbd: (voc / "JPEGImages/sbd_101.jpg").unlink(), ["sbd_101.jpg: no such file"]),
        (lambda voc, sbd: (voc / "SegmentationClass/toy_007.png").unlink(), ["toy_007.png: no such file"]),
        (lambda voc, sbd: (voc / "JPEGImages/sbd_101.jpg").write_bytes(b"\xff\xd8"), ["sbd_101.jpg: not a readable image"]),
        (lambda voc, sbd: save_mat(sbd / "cls/a_103.mat", clean(103).T), ["a_103.mat: 48x64 pixels", "64x48", "a_103.jpg"]),
        (lambda voc, sbd: (voc / "SegmentationClass/toy_007.png").write_bytes(b""), ["toy_007.png: not a readable image"]),
    ],
)
def test_missing_or_damaged_files_are_refused_and_no_list_is_written(sets, spoil, parts):
    spoil(*sets)
    with refused(*parts):
        prepare(sets)
    assert not the_list(sets).exists()
