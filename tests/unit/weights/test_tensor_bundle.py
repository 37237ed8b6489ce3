import json
import shutil

import numpy as np
import pytest

from seg.weights.tensor_bundle import read_bundle
from tests.helpers.bundles import field, lay_out, write_bundle, write_index
from tests.helpers.paths import FIXTURES
from tests.helpers.toy import refused

# Written by TensorFlow 2.21 (tf.compat.v1.train.Saver): tensors of several types and shapes; contents.json holds their values.
FIXTURE = FIXTURES / "tf_checkpoint"


def sample(seed=0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    tensors = {f"scope_{i}/weights": rng.normal(size=(3, i + 1, 2)).astype(np.float32) for i in range(7)}
    return tensors | {"global_step": np.array(41, np.int64), "empty": np.zeros((0, 4), np.float32)}


def test_a_checkpoint_of_tensorflow_is_read_tensor_by_tensor():
    contents = json.loads((FIXTURE / "contents.json").read_text())
    tensors = read_bundle(FIXTURE / "model.ckpt-3")
    assert tensors.keys() == contents.keys()
    for name, wanted in contents.items():
        assert tensors[name].dtype.name == wanted["dtype"], name
        assert list(tensors[name].shape) == wanted["shape"], name
        np.testing.assert_array_equal(tensors[name].ravel(), np.array(wanted["values"], wanted["dtype"]), name)


@pytest.mark.parametrize("shards, per_block", [(1, 100), (1, 1), (3, 4)])
def test_shards_and_blocks_of_any_number_are_read(tmp_path, shards, per_block):
    tensors = sample()
    write_bundle(tmp_path / "model", tensors, shards, per_block)
    got = read_bundle(tmp_path / "model")
    assert got.keys() == tensors.keys()
    for name, value in tensors.items():
        assert got[name].dtype == value.dtype
        np.testing.assert_array_equal(got[name], value)


def every_byte(folder):
    return [(path, at) for path in sorted(folder.glob("model*")) for at in range(path.stat().st_size)]


def assert_refused_where_flipped(folder, places):
    for path, at in places:
        whole = path.read_bytes()
        path.write_bytes(whole[:at] + bytes([whole[at] ^ (1 << at % 8)]) + whole[at + 1 :])
        with refused(folder, "damaged"):
            read_bundle(folder / ("model.ckpt-3" if (folder / "model.ckpt-3.index").exists() else "model"))
        path.write_bytes(whole)


def test_any_flipped_byte_is_refused(tmp_path):
    write_bundle(tmp_path / "model", sample(), shards=2, per_block=3)
    assert_refused_where_flipped(tmp_path, every_byte(tmp_path))


def test_any_flipped_byte_of_tensorflows_own_is_refused(tmp_path):
    shutil.copytree(FIXTURE, tmp_path / "copy")
    places = every_byte(tmp_path / "copy")
    assert_refused_where_flipped(tmp_path / "copy", places[:: max(1, len(places) // 1500)])


@pytest.mark.parametrize("kept", [0, 7, 47, 60, -1])
def test_files_cut_short_are_refused(tmp_path, kept):
    write_bundle(tmp_path / "model", sample())
    for name in ("model.index", "model.data-00000-of-00001"):
        path = tmp_path / name
        whole = path.read_bytes()
        path.write_bytes(whole[:kept])
        with refused(path, "damaged"):
            read_bundle(tmp_path / "model")
        path.write_bytes(whole)


# What no checksum tells: each writer of these believed in it. The last of several fields of a number holds.
BELIEVED = {
    "a name that is no text": lambda name, value: (b"\xff\xfe", value),
    "a type as text": lambda name, value: (name, value + field(1, b"x")),
    "a shape as a number": lambda name, value: (name, value + field(2, 7)),
    "sides without end": lambda name, value: (name, value + field(2, field(2, field(1, 2**63)) * 2)),
    "more sides than an array has": lambda name, value: (name, value + field(2, field(2, field(1, 1)) * 200)),
    "a side as text": lambda name, value: (name, value + field(2, field(2, field(1, b"x")))),
    "a place past the end": lambda name, value: (name, value + field(4, 2**64 - 1)),
    "a size past the end": lambda name, value: (name, value + field(5, 2**64 - 1)),
    "a shard that is not there": lambda name, value: (name, value + field(3, 2**40)),
    "an entry cut short": lambda name, value: (name, value[:-2]),
}


@pytest.mark.parametrize("change", BELIEVED)
def test_wrong_entries_with_correct_checksums_are_refused(tmp_path, change):
    write_bundle(tmp_path / "model", sample())
    entries, _ = lay_out(sample())
    entries[2] = BELIEVED[change](*entries[2])
    write_index(tmp_path / "model.index", entries)
    with refused(tmp_path, "damaged"):
        read_bundle(tmp_path / "model")


def test_a_dimension_may_have_a_name(tmp_path):
    write_bundle(tmp_path / "model", {"a": np.ones(3, np.float32)})
    (head, (name, value)), _ = lay_out({"a": np.ones(3, np.float32)})
    named = field(2, field(2, field(1, 3) + field(2, b"channels")))
    write_index(tmp_path / "model.index", [head, (name, value.replace(field(2, field(2, field(1, 3))), named))])
    assert read_bundle(tmp_path / "model")["a"].shape == (3,)


def test_missing_files_are_named(tmp_path):
    with refused("model.index", "no such file", "give the prefix"):
        read_bundle(tmp_path / "model")
    write_bundle(tmp_path / "model", sample(), shards=2)
    (tmp_path / "model.data-00001-of-00002").unlink()
    with refused("model.data-00001-of-00002", "no such file"):
        read_bundle(tmp_path / "model")


def test_bytes_that_belong_to_no_tensor_are_refused(tmp_path):
    write_bundle(tmp_path / "model", sample())
    with open(tmp_path / "model.data-00000-of-00001", "ab") as file:
        file.write(b"more")
    with refused("belong to no tensor"):
        read_bundle(tmp_path / "model")
