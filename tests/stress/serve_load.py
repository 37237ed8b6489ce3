"""Load `seg serve` with images, damaged images, large images and interrupted uploads, several at a time.

python -m tests.stress.serve_load

Every mask must equal that of `seg predict`. Every error must have the right status and a JSON body that says why. Memory must
not grow after the first quarter, and the service must still answer at the end.
"""

import argparse
import io
import random
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import torch
from PIL import Image

from seg.cli.main import main
from seg.config import from_dict
from seg.labels import VOC
from seg.models.factory import build_model
from seg.serve.app import BYTES, PIXELS
from seg.weights.file import Metadata, write
from tests.helpers.paths import ROOT
from tests.helpers.toy import toy_sample

CONFIG = {
    "name": "small",
    "model": {"backbone": "xception41", "width": 0.125, "aspp": {"channels": 16}, "decoder": None},
    "evaluate": {"canvas": None},
}
FORM = b'--x\r\nContent-Disposition: form-data; name="image"\r\n\r\nno file\r\n--x--\r\n'


def small_weights(path: str | Path) -> Path:
    """Write the weights of a small, untrained network for VOC's classes, and return their path."""
    torch.manual_seed(0)
    config = from_dict(CONFIG, "CONFIG")
    write(path, build_model(config.model, len(VOC)), Metadata(config, VOC, {}))
    return Path(path)


@contextmanager
def serving(weights: str | Path, *arguments: str, code: int = 130) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run `seg serve` and yield the process and its address. Ctrl-C ends it; it must exit with `code`."""
    command = [sys.executable, "-m", "seg", "serve", str(weights), "--port", "0", *arguments]
    # A background job of a shell ignores Ctrl-C, and its children inherit that.
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heard)
    try:
        line = process.stdout.readline()
        assert "http://" in line, line + process.stderr.read()
        yield process, line.split("serving at ")[1].split()[0]
    finally:
        process.send_signal(signal.SIGINT)
        try:
            _, said = process.communicate(timeout=30)
        finally:
            process.kill()
    assert process.returncode == code, (process.returncode, said)
    assert "Traceback" not in said, said


def encoded(picture: np.ndarray, kind: str, **options: Any) -> bytes:
    """Encode an image in a file format of Pillow."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, kind, **options)
    return buffer.getvalue()


def images(count: int) -> list[bytes]:
    """Make JPEGs and PNGs of several sizes, some rotated by EXIF."""
    exif = Image.Exif()
    exif[0x0112] = 6
    made = []
    for number in range(count):
        picture = toy_sample(number, (48 + 8 * (number % 3), 64 + 8 * (number % 5)))[0]
        options = {"exif": exif} if number % 4 == 3 else {}
        made.append(encoded(picture, ("JPEG", "PNG")[number % 2], **options))
    return made


def malformed() -> list[tuple[int, dict[str, Any]]]:
    """Make bad requests: the status that each must have, and the arguments of the request."""
    jpeg, png = images(2)
    damaged = bytearray(png)
    damaged[len(png) // 2] ^= 255
    floating = encoded(np.ones((9, 9), np.float32), "TIFF")
    huge = encoded(np.zeros((PIXELS // 5000 + 1, 5000), np.uint8), "PNG")
    return [
        (415, {"content": b"no image"}),
        (415, {"files": {"image": ("a.jpg", b"<html>404</html>" * 99)}}),
        (422, {"content": jpeg[: len(jpeg) // 2]}),
        (422, {"content": bytes(damaged)}),
        (422, {"content": floating}),
        (422, {"content": b""}),
        (422, {"content": FORM, "headers": {"Content-Type": "multipart/form-data; boundary=x"}}),
        (413, {"content": huge}),
        (422, {"content": jpeg, "params": {"format": "bmp"}}),
        (400, {"content": b"no form", "headers": {"Content-Type": "multipart/form-data; boundary=x"}}),
    ]


def too_large(number: int) -> dict[str, Any]:
    """Make a request with more bytes than the service accepts, with or without a content length."""
    if number % 2:
        return {"content": bytes(BYTES + 1)}
    return {"content": (bytes(2**20) for _ in range(BYTES // 2**20 + 1))}


def cut_off(address: str, image: bytes, abrupt: bool) -> None:
    """Send half of an image and close the connection."""
    host, port = address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        head = f"POST /api/segment HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(image)}\r\n\r\n"
        connection.sendall(head.encode() + image[: len(image) // 2])
        time.sleep(0.05)
        if abrupt:  # close with a reset
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def memory(process: subprocess.Popen[str]) -> float:
    """Return the resident memory of a process in MiB."""
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


class Load:
    """Sends requests of every kind to a service and collects what is wrong with its answers.

    Args:
        address: of the service.
        sent: encoded images.
        masks: what `seg predict` writes for each of them.
        secret: a path that no error message may reveal.
    """

    def __init__(self, address: str, sent: list[bytes], masks: list[bytes], secret: Path) -> None:
        self.address, self.sent, self.masks, self.secret = address, sent, masks, secret
        self.client = httpx.Client(base_url=address, timeout=120)
        self.bad, self.faults, self.seen = malformed(), list[str](), Counter[str]()

    def ask(self, job: tuple[str, int]) -> None:
        """Send one request, given by its kind and number, and check the answer."""
        kind, number = job
        image = self.sent[number % len(self.sent)]
        if kind == "cut off":
            cut_off(self.address, image, number % 2 == 0)
            self.seen[kind] += 1
            return
        status, request = 200, {"content": image}
        if kind == "malformed":
            status, request = self.bad[number % len(self.bad)]
        elif kind == "too large":
            status, request = 413, too_large(number)
        elif number % 3 == 1:
            request = {"files": {"image": ("upload", image)}}
        response = self.client.post("/api/segment", **request)
        self.seen[f"{kind}: {response.status_code}"] += 1
        if fault := self.fault(response, status, self.masks[number % len(self.masks)]):
            self.faults.append(f"{kind} {number}: {fault}")

    def fault(self, response: httpx.Response, status: int, mask: bytes) -> str:
        """Return what is wrong with an answer; empty if nothing is."""
        if response.status_code != status:
            return f"status {response.status_code}, not {status}: {response.text[:200]}"
        if status == 200:
            return "" if response.content == mask else "not the mask of seg predict"
        reveals = str(self.secret) in response.text or "/seg/" in response.text
        return f"says {response.text[:200]}" if reveals or not response.json()["detail"] else ""

    def run(self, jobs: list[list[tuple[str, int]]], at_once: int, process: subprocess.Popen[str]) -> list[float]:
        """Send each list of jobs in random order; return the memory of the process in MiB after each list."""
        shuffle, used = random.Random(0), []
        with self.client, ThreadPoolExecutor(at_once) as pool:
            for part in jobs:
                shuffle.shuffle(part)
                list(pool.map(self.ask, part))
                used.append(memory(process))
            health = self.client.get("/healthz").json()
        if health != {"status": "ok", "waiting": 0}:
            self.faults.append(f"/healthz at the end: {health}")
        if used[-1] > 1.1 * used[0] + 2 * BYTES / 2**20:
            self.faults.append(f"memory grew from {used[0]:.0f} to {used[-1]:.0f} MiB")
        return used


def load(
    folder: Path, count: int, at_once: int, wrong: int, large: int, cut: int, say: Callable[[str], None] = print
) -> list[str]:
    """Load a service with requests and return the faults.

    Args:
        folder: an empty folder.
        count: good images.
        at_once: requests at the same time.
        wrong: malformed requests.
        large: requests with too many bytes.
        cut: uploads that are cut off.
        say: prints a line.
    """
    weights, sent = small_weights(folder / "small.safetensors"), images(min(count, 24))
    (folder / "images").mkdir()
    for number, content in enumerate(sent):
        (folder / "images" / f"{number}.jpg").write_bytes(content)  # the content decides, not the suffix
    predict = ["predict", str(weights), str(folder / "images"), "--out", str(folder / "masks"), "--mode", "palette", "--quiet"]
    assert main(predict) == 0
    masks = [(folder / "masks" / f"{number}.png").read_bytes() for number in range(len(sent))]
    assert len(set(masks)) > len(masks) // 2, "different images must have different masks"
    good = [("image", number) for number in range(count)]
    counts = {"malformed": wrong, "too large": large, "cut off": cut}
    others = [(kind, number) for kind, n in counts.items() for number in range(n)]
    # Each quarter has requests of all kinds, so that memory is compared after the same work.
    quarters = [good[quarter::4] + others[quarter::4] for quarter in range(4)]
    began = time.monotonic()
    with serving(weights, "--quiet") as (process, address):
        test = Load(address, sent, masks, folder)
        used = test.run(quarters, at_once, process)
    say(", ".join(f"{kind} x {n}" for kind, n in sorted(test.seen.items())))
    say(f"MiB after each quarter: {', '.join(f'{each:.0f}' for each in used)}; {time.monotonic() - began:.0f} s")
    return test.faults


def run() -> int:
    """Parse the arguments and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=200, help="good images; default: 200")
    parser.add_argument("--at-once", type=int, default=8, help="requests at the same time; default: 8")
    parser.add_argument("--malformed", type=int, default=20, help="malformed requests; default: 20")
    parser.add_argument("--too-large", type=int, default=5, help="requests with too many bytes; default: 5")
    parser.add_argument("--cut-off", type=int, default=5, help="uploads that are cut off; default: 5")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        faults = load(Path(folder), args.images, args.at_once, args.malformed, args.too_large, args.cut_off)
    for fault in faults:
        print(fault)
    print(f"{len(faults)} faults" if faults else "no faults")
    return 1 if faults else 0


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(run())
