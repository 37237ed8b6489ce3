import io
import os
import tarfile

import pytest

from seg.archives import extract
from tests.helpers.toy import refused

FILES = {"kit/set/lists/train.txt": b"a\nb\n", "kit/set/images/a.jpg": os.urandom(70_000), "kit/set/empty.txt": b""}


def packed(path, *members, mode="w", files=FILES):
    """A tar at `path` of FILES, then of `members`: a TarInfo, or a TarInfo with its bytes."""
    with tarfile.open(path, mode) as tar:
        for name, data in files.items():
            add(tar, tarfile.TarInfo(name), data)
        for member in members:
            add(tar, *(member if isinstance(member, tuple) else (member, b"")))
    return path


def add(tar, member, data):
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))


def entry(name, kind=tarfile.REGTYPE, link="", mode=0o644):
    member = tarfile.TarInfo(name)
    member.type, member.linkname, member.mode = kind, link, mode
    return member


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_only_the_named_folder_of_an_archive_is_unpacked(tmp_path, mode):
    archive = packed(tmp_path / "a.tar", (entry("kit/README"), b"other"), (entry("./kit/set/b.txt"), b"dotted"), mode=mode)
    seen = []
    extract(archive, "kit/set", tmp_path / "new" / "set", 10**6, seen.append)
    expected = {name.removeprefix("kit/set/"): data for name, data in FILES.items()} | {"b.txt": b"dotted"}
    assert contents(tmp_path / "new" / "set") == expected
    assert os.listdir(tmp_path / "new") == ["set"]
    assert seen == sorted(seen)
    assert 0 < seen[-1] <= archive.stat().st_size


EVIL = {
    "parent": [(entry("../x"), b"bad")],
    "parent inside": [(entry("kit/set/../../../x"), b"bad")],
    "absolute": [(entry("/seg-test-x"), b"bad")],
    "link out": [entry("kit/set/out", tarfile.SYMTYPE, "../../.."), (entry("kit/set/out/x"), b"bad")],
    "absolute link": [entry("kit/set/out", tarfile.SYMTYPE, "/"), (entry("kit/set/out/tmp/x"), b"bad")],
    "the folder a link": [entry("kit/set", tarfile.SYMTYPE, "/tmp"), (entry("kit/set/x"), b"bad")],
    "hard link out": [entry("kit/set/passwd", tarfile.LNKTYPE, "../../etc/passwd")],
    "character device": [entry("kit/set/null", tarfile.CHRTYPE)],
    "block device": [entry("kit/set/disk", tarfile.BLKTYPE)],
    "pipe": [entry("kit/set/pipe", tarfile.FIFOTYPE)],
}


@pytest.mark.parametrize("name", EVIL)
def test_a_hostile_archive_is_refused_and_nothing_of_it_stays(tmp_path, name):
    place = tmp_path / "deep" / "er"
    place.mkdir(parents=True)
    archive = packed(place / "a.tar", *EVIL[name])
    first = EVIL[name][0]
    with refused(archive, f"'{first[0].name if isinstance(first, tuple) else first.name}'", "not safe"):
        extract(archive, "kit/set", place / "set", 10**6)
    assert sorted(tmp_path.rglob("*")) == [tmp_path / "deep", place, archive]


def test_modes_and_owners_of_the_archive_are_ignored(tmp_path):
    own = entry("kit/set/tool", mode=0o6777)
    own.uid = own.gid = 12345
    extract(packed(tmp_path / "a.tar", (own, b"#!")), "kit/set", tmp_path / "set", 10**6)
    found = (tmp_path / "set" / "tool").stat()
    assert found.st_mode & 0o7111 == 0
    assert found.st_uid == os.getuid()


def test_an_archive_larger_than_published_is_refused_before_it_is_written(tmp_path):
    zeros = (entry("kit/set/zeros"), bytes(5_000_000))
    archive = packed(tmp_path / "a.tgz", zeros, mode="w:gz")
    assert archive.stat().st_size < 100_000
    with refused(archive, "more than 4,000,000 bytes"):
        extract(archive, "kit/set", tmp_path / "set", 4_000_000)
    assert os.listdir(tmp_path) == ["a.tgz"]
    extract(archive, "kit/set", tmp_path / "set", 6_000_000)


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_a_truncated_or_corrupted_archive_gives_one_line_and_leaves_nothing(tmp_path, mode):
    whole = packed(tmp_path / "whole", mode=mode).read_bytes()
    (tmp_path / "whole").unlink()
    archive = tmp_path / "a.tar"
    for damaged in (
        b"",
        whole[: len(whole) // 2],
        whole[:100],
        b"\x00" * 10,
        b"<html>" * 200,
        whole[:700] + bytes(9) + whole[709:70_000],
    ):
        archive.write_bytes(damaged)
        with refused(archive):
            extract(archive, "kit/set", tmp_path / "set", 10**6)
        assert os.listdir(tmp_path) == ["a.tar"]


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_an_archive_corrupted_near_its_end_gives_one_line_and_leaves_nothing(tmp_path, mode):
    files = {f"kit/set/{number}.txt": b"%d\n" % number * 9_000 for number in range(100)}
    archive = packed(tmp_path / "a.tar", mode=mode, files=files)
    data = archive.read_bytes()
    archive.write_bytes(data[: len(data) * 2 // 3] + b"\xff" * 60_000)
    with refused(archive, "not a whole tar archive"):
        extract(archive, "kit/set", tmp_path / "set", 10**8)
    assert os.listdir(tmp_path) == ["a.tar"]


def test_another_archive_is_reported(tmp_path):
    with refused("no files in kit/else/", "right archive"):
        extract(packed(tmp_path / "a.tar"), "kit/else", tmp_path / "set", 10**6)


def test_an_existing_target_and_a_missing_archive_are_reported(tmp_path):
    archive = packed(tmp_path / "a.tar")
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "mine").touch()
    with refused(archive, tmp_path / "set", "not empty"):
        extract(archive, "kit/set", tmp_path / "set", 10**6)
    assert contents(tmp_path / "set") == {"mine": b""}
    with refused("none.tar", "No such file"):
        extract(tmp_path / "none.tar", "kit/set", tmp_path / "other", 10**6)


def test_files_of_a_killed_run_are_removed(tmp_path):
    left = tmp_path / ".set.extracting"
    left.mkdir()
    (left / "half.jpg").touch()
    extract(packed(tmp_path / "a.tar"), "kit/set", tmp_path / "set", 10**6)
    assert not (tmp_path / "set" / "half.jpg").exists()
    assert sorted(os.listdir(tmp_path)) == ["a.tar", "set"]
