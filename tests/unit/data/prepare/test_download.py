import contextlib
import errno
import hashlib
import http.server
import io
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import threading
import time

import pytest

from seg import download as transfer
from seg.cli.main import main
from seg.data.prepare.download import SOURCES, Source, download
from seg.errors import UserError
from tests.helpers.toy import refused

FILES = {
    "train.txt": b"a\n",
    "images/a.jpg": random.Random(1).randbytes(200_000),
    "images/b.jpg": random.Random(2).randbytes(90_000),
}


def packed() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in FILES.items():
            member = tarfile.TarInfo(f"kit/toy/{name}")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


ARCHIVE = packed()
OTHER = bytes(len(ARCHIVE))  # of the same size


class Handler(http.server.BaseHTTPRequestHandler):
    """Serve `server.content` or a range of it. Each request takes the next entry of `server.plan`; later ones succeed."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        server = self.server
        request = {"path": self.path, "range": self.headers.get("Range"), "if": self.headers.get("If-Range"), "sent": 0}
        server.requests.append(request)
        plan = server.plan.pop(0) if server.plan else {}
        self.close_connection = True
        if "status" in plan:
            self.send_response(plan["status"])
            for name, value in plan.get("headers", {}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", "0")
            return self.end_headers()
        content = plan.get("content", server.content)
        etag = plan.get("etag", '"1"')
        begin = 0
        if request["range"] and plan.get("ranges", True) and request["if"] in (None, etag):
            begin = int(request["range"].removeprefix("bytes=").removesuffix("-"))
            if begin >= len(content):
                self.send_response(416)
                self.send_header("Content-Length", "0")
                return self.end_headers()
            self.send_response(206)
            first = begin + plan.get("shift", 0)
            self.send_header("Content-Range", f"bytes {first}-{len(content) - 1}/{plan.get('total', len(content))}")
        else:
            self.send_response(200)
        body = content[begin:]
        if etag:
            self.send_header("ETag", etag)
        if plan.get("length", True):
            self.send_header("Content-Length", str(len(body) + plan.get("longer", 0)))
        self.end_headers()
        body = body[: plan.get("stop", len(body))]
        request["sent"] = len(body)  # before it is sent: whoever has the last byte may look at once
        with contextlib.suppress(OSError):
            self.wfile.write(body)
            self.wfile.flush()
            server.release.wait(plan.get("stall", 0))

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    """A local web server with `.url`, `.plan` and the `.requests` it received."""
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(transfer, "PAUSE", 0.0)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.content, server.plan, server.requests, server.release = ARCHIVE, [], [], threading.Event()
        server.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.release.set()
        server.shutdown()
        thread.join()


def toy(*urls) -> Source:
    md5 = hashlib.md5(ARCHIVE).hexdigest()
    holds = {"images": 2, "train.txt": 0}
    return Source("toy", "toy.tar", len(ARCHIVE), md5, len(ARCHIVE), "kit/toy", "data/toy", holds, urls)


def check(out):
    """The data set is there, and nothing else."""
    assert {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()} == FILES
    assert os.listdir(out.parent) == [out.name]


def test_a_data_set_is_downloaded_completely_and_a_second_run_downloads_nothing(server, tmp_path, capsys):
    out = tmp_path / "data" / "toy"
    source = toy(f"{server.url}/toy.tar")
    assert download(source, out)
    check(out)
    told = capsys.readouterr().err
    assert f"{server.url}/toy.tar\n" in told
    assert "download toy 1/1" in told
    assert "extract toy 1/1" in told
    assert not download(source, out)
    assert [request["sent"] for request in server.requests] == [len(ARCHIVE)]


def test_quiet_prints_nothing(server, tmp_path, capsys):
    server.plan = [{"status": 404}, {"stop": 1000}]
    assert download(toy(f"{server.url}/1/toy.tar", f"{server.url}/2/toy.tar"), tmp_path / "toy", quiet=True)
    assert capsys.readouterr() == ("", "")


HALF = len(ARCHIVE) // 2
FIXED = {
    # what the server does, and the requests that follow: path number, first byte asked for, bytes sent
    "breaks off twice": (
        [{"stop": 100_000}, {"stop": 100_000}],
        [(1, None, 100_000), (1, 100_000, 100_000), (1, 200_000, len(ARCHIVE) - 200_000)],
    ),
    "breaks off often, each time further": (
        [{"stop": 30_000}] * 9,
        [(1, 30_000 * n or None, 30_000) for n in range(9)] + [(1, 270_000, len(ARCHIVE) - 270_000)],
    ),
    "not found": ([{"status": 404}], [(1, None, 0), (2, None, len(ARCHIVE))]),
    "server error": ([{"status": 500}], [(1, None, 0), (2, None, len(ARCHIVE))]),
    "redirected": (
        [{"stop": 1000}, {"status": 302, "headers": {"Location": "/2/toy.tar"}}],
        [(1, None, 1000), (1, 1000, 0), (2, 1000, len(ARCHIVE) - 1000)],
    ),
    "redirected in a circle": (
        [{"status": 302, "headers": {"Location": "/1/toy.tar"}}] * 5,
        [(1, None, 0)] * 5 + [(2, None, len(ARCHIVE))],
    ),
    "redirected to a file": (
        [{"status": 302, "headers": {"Location": "file:///etc/passwd"}}],
        [(1, None, 0), (2, None, len(ARCHIVE))],
    ),
    "ignores ranges": (
        [{"stop": HALF}, {"ranges": False}],
        [(1, None, HALF), (1, HALF, len(ARCHIVE))],
    ),
    "ignores ranges and always breaks off": (
        [{"stop": HALF, "ranges": False}] * 4,
        [(1, None, HALF)] + [(1, HALF, HALF)] * 3 + [(2, HALF, len(ARCHIVE) - HALF)],
    ),
    "another range": (
        [{"stop": HALF}, {"shift": 7}],
        [(1, None, HALF), (1, HALF, None), (1, None, len(ARCHIVE))],
    ),
    "a range of an unknown whole": (
        [{"stop": HALF}, {"total": "*"}],
        [(1, None, HALF), (1, HALF, len(ARCHIVE) - HALF)],
    ),
    "wrong bytes": ([{"content": OTHER}], [(1, None, len(ARCHIVE)), (2, None, len(ARCHIVE))]),
    "wrong bytes in pieces": (
        [{"content": OTHER, "stop": HALF}, {"content": OTHER}, {"content": OTHER}],
        [(1, None, HALF), (1, HALF, len(ARCHIVE) - HALF), (1, None, len(ARCHIVE)), (2, None, len(ARCHIVE))],
    ),
    "a page instead": ([{"content": b"<html>blocked</html>"}], [(1, None, None), (2, None, len(ARCHIVE))]),
    "too much promised": ([{"longer": 5, "stall": 0}], [(1, None, None), (2, None, len(ARCHIVE))]),
    "too little promised": ([{"longer": -5}], [(1, None, None), (2, None, len(ARCHIVE))]),
    "too much sent": ([{"content": ARCHIVE + bytes(9), "length": False}], [(1, None, None), (2, None, len(ARCHIVE))]),
    "no length": ([{"length": False}], [(1, None, len(ARCHIVE))]),
    "no length and breaks off": (
        [{"length": False, "stop": HALF}],
        [(1, None, HALF), (1, HALF, len(ARCHIVE) - HALF)],
    ),
    "changed in between": (
        [{"stop": HALF, "content": OTHER, "etag": '"0"'}, {}],
        [(1, None, HALF), (1, HALF, len(ARCHIVE))],
    ),
    "changed in between, without ETags": (
        [{"stop": HALF, "content": OTHER, "etag": ""}, {"etag": ""}, {"etag": ""}],
        [(1, None, HALF), (1, HALF, len(ARCHIVE) - HALF), (1, None, len(ARCHIVE))],
    ),
    "a weak ETag": (
        [{"stop": HALF, "etag": 'W/"1"'}],
        [(1, None, HALF), (1, HALF, len(ARCHIVE) - HALF)],
    ),
    "the first address breaks off for good": (
        [{"stop": HALF}] + [{"stop": 0}] * 3 + [{"etag": '"2"'}],
        [(1, None, HALF)] + [(1, HALF, 0)] * 3 + [(2, HALF, len(ARCHIVE) - HALF)],
    ),
    "the first address began with wrong bytes": (
        [{"content": OTHER, "stop": HALF}, {"status": 404}],
        [(1, None, HALF), (1, HALF, 0), (2, HALF, len(ARCHIVE) - HALF), (2, None, len(ARCHIVE))],
    ),
}


@pytest.mark.parametrize("name", FIXED)
def test_a_bad_server_is_tried_again_or_the_next_one_is_used(server, tmp_path, name):
    server.plan, expected = list(FIXED[name][0]), FIXED[name][1]
    assert download(toy(f"{server.url}/1/toy.tar", f"{server.url}/2/toy.tar"), tmp_path / "toy", quiet=True)
    check(tmp_path / "toy")
    found = []
    for request, (_, _, sent) in zip(server.requests, expected, strict=True):
        first = request["range"] and int(request["range"].removeprefix("bytes=").removesuffix("-"))
        found.append((int(request["path"][1]), first, None if sent is None else request["sent"]))
    assert found == expected


def test_a_server_that_does_not_answer_times_out(server, tmp_path, monkeypatch):
    monkeypatch.setattr(transfer, "TIMEOUT", 0.7)
    server.plan = [{"stop": 1000, "stall": 30}, {"stop": 0, "stall": 30}]
    began = time.monotonic()
    assert download(toy(f"{server.url}/toy.tar"), tmp_path / "toy", quiet=True)
    assert [request["range"] for request in server.requests] == [None, "bytes=1000-", "bytes=1000-"]
    assert time.monotonic() - began < 25
    check(tmp_path / "toy")


def test_a_partial_file_longer_than_the_server_s_is_downloaded_again(server, tmp_path):
    server.plan = [{"content": ARCHIVE[:500]}]
    (tmp_path / "toy.tar.part").write_bytes(ARCHIVE[:1000])
    assert download(toy(f"{server.url}/toy.tar"), tmp_path / "toy", quiet=True)
    assert [request["range"] for request in server.requests] == ["bytes=1000-", None]
    check(tmp_path / "toy")


@pytest.mark.parametrize("part", [OTHER, ARCHIVE + b"x", b"x" * 1000])
@pytest.mark.parametrize("about", ["", "[]", '{"url": "URL", "validator": [7]}', '{"url": "URL", "validator": "\\"2\\""}'])
def test_an_unknown_partial_file_is_not_trusted(server, tmp_path, part, about):
    (tmp_path / "toy.tar.part").write_bytes(part)
    (tmp_path / "toy.tar.part.json").write_text(about.replace("URL", f"{server.url}/toy.tar"))
    assert download(toy(f"{server.url}/toy.tar"), tmp_path / "toy", quiet=True)
    check(tmp_path / "toy")


def test_a_complete_partial_file_is_not_downloaded_again(server, tmp_path):
    (tmp_path / "toy.tar.part").write_bytes(ARCHIVE)
    assert download(toy(f"{server.url}/toy.tar"), tmp_path / "toy", quiet=True)
    assert server.requests == []
    check(tmp_path / "toy")


def test_a_download_asks_for_uncompressed_bytes(server, tmp_path):
    server.plan = [{"stop": HALF}]
    assert download(toy(f"{server.url}/toy.tar"), tmp_path / "toy", quiet=True)
    assert [request["if"] for request in server.requests] == [None, '"1"']


def test_a_failed_download_gives_one_line_and_keeps_the_partial_file(server, tmp_path):
    server.plan = [{"status": 404}, {"stop": HALF}, {"status": 503}]
    with refused("toy.tar", "404", "503", "MiB received are kept", "--mirror", "--from-archive"):
        download(toy(f"{server.url}/1/toy.tar", f"{server.url}/2/toy.tar"), tmp_path / "toy", quiet=True)
    assert (tmp_path / "toy.tar.part").read_bytes() == ARCHIVE[:HALF]
    server.requests.clear()
    assert download(toy(f"{server.url}/2/toy.tar"), tmp_path / "toy", quiet=True)
    assert [request["sent"] for request in server.requests] == [len(ARCHIVE) - HALF]
    check(tmp_path / "toy")


def test_wrong_checksums_from_all_servers_leave_nothing(server, tmp_path):
    server.content = OTHER
    with refused("wrong bytes"):
        download(toy(f"{server.url}/1/toy.tar", f"{server.url}/2/toy.tar"), tmp_path / "toy", quiet=True)
    assert os.listdir(tmp_path) == []


def test_an_unreachable_server_gives_one_line(server, tmp_path):
    with refused("refused"):
        download(toy("http://127.0.0.1:9/toy.tar"), tmp_path / "toy", quiet=True)
    with refused("toy.tar"):
        download(toy("http://no-such-host.invalid/toy.tar"), tmp_path / "toy", quiet=True)
    assert os.listdir(tmp_path) == []


OFFLINE = {
    "no such server": socket.gaierror(socket.EAI_NONAME, "Name or service not known"),
    "no name service": socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"),
    "no route": OSError(errno.ENETUNREACH, "Network is unreachable"),
}


@pytest.mark.parametrize("case", OFFLINE)
def test_an_offline_download_ends_at_once_with_one_line_that_says_the_cause_once(case, tmp_path, monkeypatch, capsys):
    """Name services fail after seconds each, so that tries in a row would take minutes."""
    tried = []

    def offline(address, *_, **__):
        tried.append(address[0])
        raise OFFLINE[case]

    monkeypatch.setattr(socket, "create_connection", offline)
    monkeypatch.setattr(time, "sleep", lambda seconds: seconds and pytest.fail("it waits"))
    with pytest.raises(UserError) as error:
        download(toy("http://one.test/toy.tar", "http://two.test/toy.tar", "http://two.test/again/toy.tar"), tmp_path / "toy")
    assert f"(one.test, two.test: no network, or no such server: {OFFLINE[case].strerror})" in str(error.value)
    assert str(error.value).count(OFFLINE[case].strerror) == 1
    assert tried == ["one.test", "two.test", "two.test"]
    assert capsys.readouterr().err == ""
    assert os.listdir(tmp_path) == []


def test_mirrors_replace_the_published_addresses(server, tmp_path, monkeypatch):
    source = toy(f"{server.url}/published/toy.tar")
    monkeypatch.setenv("SEG_MIRRORS", f"{server.url}/a, {server.url}/b/")
    server.plan = [{"status": 404}]
    download(source, tmp_path / "1", quiet=True)
    download(source, tmp_path / "2", mirrors=[f"{server.url}/c/toy.tar?key=1"], quiet=True)
    assert [request["path"] for request in server.requests] == ["/a/toy.tar", "/b/toy.tar", "/c/toy.tar?key=1"]
    for address in ("ftp://example.org", "mirror/toy.tar", "file:///toy.tar", "http://"):
        with refused(address, "http", "--from-archive"):
            download(source, tmp_path / "3", mirrors=[address], quiet=True)


def test_an_archive_at_hand_needs_no_network(tmp_path):
    archive = tmp_path / "mine.tar"
    archive.write_bytes(ARCHIVE)
    assert download(toy("http://127.0.0.1:9/toy.tar"), tmp_path / "data" / "toy", archive, quiet=True)
    check(tmp_path / "data" / "toy")
    assert archive.read_bytes() == ARCHIVE


def test_another_archive_is_refused_before_it_is_opened(tmp_path):
    archive = tmp_path / "mine.tar"
    for data, what in ((OTHER, hashlib.md5(OTHER).hexdigest()), (ARCHIVE[:-512], f"{len(ARCHIVE) - 512:,} bytes")):
        archive.write_bytes(data)
        with refused(archive, "not toy.tar", what):
            download(toy(), tmp_path / "toy", archive, quiet=True)
    with refused("none.tar", "No such file"):
        download(toy(), tmp_path / "toy", tmp_path / "none.tar", quiet=True)
    with refused("login", "--from-archive"):
        download(toy(), tmp_path / "toy", quiet=True)
    assert os.listdir(tmp_path) == ["mine.tar"]


def test_a_full_disk_is_reported_before_the_download_starts(server, tmp_path, monkeypatch):
    (tmp_path / "toy.tar.part").write_bytes(ARCHIVE[:HALF])
    need = 2 * len(ARCHIVE) - HALF
    monkeypatch.setattr(shutil, "disk_usage", lambda _: type("", (), {"free": need - 1}))
    with refused(tmp_path, "GB are needed", "GB are free", "--out"):
        download(toy(f"{server.url}/toy.tar"), tmp_path / "toy", quiet=True)
    assert server.requests == []
    monkeypatch.setattr(shutil, "disk_usage", lambda _: type("", (), {"free": need}))
    assert download(toy(f"{server.url}/toy.tar"), tmp_path / "toy", quiet=True)


def test_a_full_disk_gives_one_line_and_keeps_the_downloaded_part(server, tmp_path):
    import resource

    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, old[1]))
    try:
        with refused("toy.tar.part", "cannot be written", "make room"):
            download(toy(f"{server.url}/toy.tar"), tmp_path / "toy", quiet=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    assert (tmp_path / "toy.tar.part").read_bytes() == ARCHIVE[:100_000]
    assert download(toy(f"{server.url}/toy.tar"), tmp_path / "toy", quiet=True)
    assert server.requests[-1]["range"] == "bytes=100000-"


def test_a_short_write_continues_at_its_position(tmp_path):
    class Narrow(io.FileIO):
        def write(self, data):
            return super().write(data[:1000])

    with Narrow(tmp_path / "part", "w") as file:
        transfer.Part(tmp_path / "part", file).append(ARCHIVE[:10_500])
    assert (tmp_path / "part").read_bytes() == ARCHIVE[:10_500]


def test_a_folder_with_other_content_is_not_changed(server, tmp_path):
    out = tmp_path / "toy"
    out.mkdir()
    assert download(toy(f"{server.url}/toy.tar"), out, quiet=True)  # an empty one is taken
    (out / "images" / "b.jpg").unlink()
    with refused(out, "1 of 2 files in images", "--out"):
        download(toy(f"{server.url}/toy.tar"), out, quiet=True)
    (out / "train.txt").unlink()
    (out / "images" / "b.jpg").touch()
    with refused(out, "no train.txt"):
        download(toy(f"{server.url}/toy.tar"), out, quiet=True)
    assert len(server.requests) == 1
    assert os.listdir(tmp_path) == ["toy"]


def test_two_downloads_at_once_do_not_interfere(server, tmp_path):
    server.plan = [{"stop": HALF, "stall": 30}]
    source = toy(f"{server.url}/toy.tar")
    first = threading.Thread(target=download, args=(source, tmp_path / "toy"), kwargs={"quiet": True})
    first.start()
    try:
        wait_for(lambda: size(tmp_path / "toy.tar.part") == HALF)
        with refused(tmp_path / "toy.tar.part", "another process"):
            download(source, tmp_path / "toy", quiet=True)
    finally:
        server.release.set()
        first.join()
    check(tmp_path / "toy")


def wait_for(done, seconds=60):
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def size(path) -> int:
    return path.stat().st_size if path.exists() else -1


def test_a_killed_download_resumes(server, tmp_path):
    source = toy(f"{server.url}/toy.tar")
    script = (
        f"from seg.data.prepare.download import SOURCES, Source\nSOURCES['toy'] = {source!r}\n"
        "from seg.cli.main import main\nraise SystemExit(main())"
    )
    command = [sys.executable, "-c", script, "data", "download", "toy", "--out", "data/toy"]
    part = tmp_path / "data" / "toy.tar.part"
    here = {"cwd": tmp_path, "env": {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [os.getcwd(), *sys.path]))}}
    server.plan = [{"stop": 50_000, "stall": 30}, {"stop": 60_000, "stall": 30}]
    for came in (50_000, 110_000):
        with subprocess.Popen(command, stderr=subprocess.DEVNULL, **here) as process:
            wait_for(lambda came=came: size(part) == came)
            process.send_signal(signal.SIGKILL)
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, **here)
    assert (done.returncode, done.stdout) == (0, "toy is in data/toy\n"), done.stderr
    check(tmp_path / "data" / "toy")
    assert [request["range"] for request in server.requests] == [None, "bytes=50000-", "bytes=110000-"]
    assert sum(request["sent"] for request in server.requests) == len(ARCHIVE)


@pytest.mark.parametrize("where", ["os.sync", "os.rename", "seg.download.Part.clear"])
def test_a_kill_while_unpacking_needs_no_new_download(tmp_path, where, monkeypatch):
    """The process ends at once, as with SIGKILL, at one of the last steps."""
    (tmp_path / "toy.tar.part").write_bytes(ARCHIVE)
    child = os.fork()
    if not child:
        try:
            monkeypatch.setattr(where, lambda *_: os._exit(9))
            download(toy("http://127.0.0.1:9/toy.tar"), tmp_path / "toy", quiet=True)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    fresh = download(toy("http://127.0.0.1:9/toy.tar"), tmp_path / "toy", quiet=True)
    assert fresh == (where != "seg.download.Part.clear")
    check(tmp_path / "toy")


def test_a_data_set_is_downloaded_by_the_command(server, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(SOURCES, "toy", toy())
    server.plan = [{"status": 404}]
    command = ["data", "download", "toy", "--quiet", "--mirror", f"{server.url}/a", "--mirror", f"{server.url}/b"]
    assert main(command) == 0
    assert main(command) == 0
    assert capsys.readouterr().out == "toy is in data/toy\ntoy is already in data/toy; nothing was downloaded\n"
    assert main(["data", "download", "voc2021"]) == 2
    assert capsys.readouterr().err == "seg: voc2021: no such published data set; did you mean 'voc2012'?\n"


def test_the_published_addresses_name_their_file():
    for name, source in SOURCES.items():
        assert source.name == name
        assert len(source.md5) == 32
        assert all(url.endswith(f"/{source.file}") for url in source.urls)
