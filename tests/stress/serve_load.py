"""`seg serve` under load: images, damaged ones, too large ones and uploads that are cut off, several at a time.

python -m tests.stress.serve_load

Every mask must equal that of `seg predict`, every refusal have its status and say why in JSON, memory stay what it was after
the first quarter, and the service answer at the end.
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
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import httpx
import numpy as np
import torch
from PIL import Image

from seg.cli.main import main
from seg.config import from_dict
from seg.labels import VOC
from seg.models.factory import build_model
from seg.serve.app import BYTES, PIXELS
from seg.weights.file import write
from tests.helpers.paths import ROOT
from tests.helpers.toy import toy_sample

CONFIG = {
    "name": "small",
    "model": {"backbone": "xception41", "width": 0.125, "aspp": {"channels": 16}, "decoder": None},
    "evaluate": {"canvas": None},
}
FORM = b'--x\r\nContent-Disposition: form-data; name="image"\r\n\r\nno file\r\n--x--\r\n'


def small_weights(path) -> Path:
    """A weights file of a small network of VOC's classes, not trained."""
    torch.manual_seed(0)
    config = from_dict(CONFIG, "CONFIG")
    write(path, build_model(config.model, len(VOC)), config, VOC, {})
    return Path(path)


@contextmanager
def serving(weights, *arguments, code=130):
    """`seg serve` of the weights as a process: the process and its address. Ended by Ctrl-C, with `code`."""
    command = [sys.executable, "-m", "seg", "serve", str(weights), "--port", "0", *arguments]
    # A shell's background job, as this may be, has Ctrl-C ignored, and so would the process.
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


def encoded(picture, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, kind, **options)
    return buffer.getvalue()


def images(count: int) -> list[bytes]:
    """JPEGs and PNGs of several sizes, some turned by their EXIF."""
    exif = Image.Exif()
    exif[0x0112] = 6
    made = []
    for number in range(count):
        picture = toy_sample(number, (48 + 8 * (number % 3), 64 + 8 * (number % 5)))[0]
        options = {"exif": exif} if number % 4 == 3 else {}
        made.append(encoded(picture, ("JPEG", "PNG")[number % 2], **options))
    return made


def malformed() -> list[tuple[int, dict]]:
    """The status that each must have, and what is sent."""
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


def too_large(number: int) -> dict:
    """One of more bytes than are taken, its length told or not."""
    if number % 2:
        return {"content": bytes(BYTES + 1)}
    return {"content": (bytes(2**20) for _ in range(BYTES // 2**20 + 1))}


def cut_off(address: str, image: bytes, abrupt: bool) -> None:
    """Send half of an image, and go."""
    host, port = address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        head = f"POST /api/segment HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(image)}\r\n\r\n"
        connection.sendall(head.encode() + image[: len(image) // 2])
        time.sleep(0.05)
        if abrupt:  # with a reset
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def memory(process) -> float:
    """MiB of a process."""
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


def load(folder: Path, count: int, at_once: int, wrong: int, large: int, cut: int, say=print) -> list[str]:
    """What was not as it must be."""
    weights, sent = small_weights(folder / "small.safetensors"), images(min(count, 24))
    (folder / "images").mkdir()
    for number, content in enumerate(sent):
        (folder / "images" / f"{number}.jpg").write_bytes(content)  # the suffix says nothing: the content does
    assert (
        main(["predict", str(weights), str(folder / "images"), "--out", str(folder / "masks"), "--mode", "palette", "--quiet"])
        == 0
    )
    masks = [(folder / "masks" / f"{number}.png").read_bytes() for number in range(len(sent))]
    assert len(set(masks)) > len(masks) // 2, "the masks do not tell the images apart"

    bad, faults, seen, began = malformed(), [], Counter(), time.monotonic()
    with serving(weights, "--quiet") as (process, address), httpx.Client(base_url=address, timeout=120) as client:

        def ask(job):
            kind, number = job
            if kind == "cut off":
                cut_off(address, sent[number % len(sent)], number % 2 == 0)
                seen[kind] += 1
                return
            status, request = 200, {"content": sent[number % len(sent)]}
            if kind == "malformed":
                status, request = bad[number % len(bad)]
            elif kind == "too large":
                status, request = 413, too_large(number)
            elif number % 3 == 1:
                request = {"files": {"image": ("upload", sent[number % len(sent)])}}
            response = client.post("/api/segment", **request)
            seen[f"{kind}: {response.status_code}"] += 1
            if response.status_code != status:
                faults.append(f"{kind} {number}: status {response.status_code}, not {status}: {response.text[:200]}")
            elif status == 200 and response.content != masks[number % len(sent)]:
                faults.append(f"{kind} {number}: not the mask of seg predict")
            elif status != 200 and (not response.json()["detail"] or str(folder) in response.text or "/seg/" in response.text):
                faults.append(f"{kind} {number}: says {response.text[:200]}")

        jobs = [("image", number) for number in range(count)]
        others = [
            (kind, number) for kind, n in (("malformed", wrong), ("too large", large), ("cut off", cut)) for number in range(n)
        ]
        # All kinds come in each quarter, so that memory is compared after the same work.
        shuffle = random.Random(0)
        quarters = [jobs[quarter::4] + others[quarter::4] for quarter in range(4)]
        used = []
        with ThreadPoolExecutor(at_once) as pool:
            for quarter in quarters:
                shuffle.shuffle(quarter)
                list(pool.map(ask, quarter))
                used.append(memory(process))
        health = client.get("/healthz").json()
        if health != {"status": "ok", "waiting": 0}:
            faults.append(f"/healthz at the end: {health}")
    if used[-1] > 1.1 * used[0] + 2 * BYTES / 2**20:
        faults.append(f"memory grew from {used[0]:.0f} to {used[-1]:.0f} MiB")
    say(", ".join(f"{kind} x {n}" for kind, n in sorted(seen.items())))
    say(f"MiB after each quarter: {', '.join(f'{each:.0f}' for each in used)}; {time.monotonic() - began:.0f} s")
    return faults


def run() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--at-once", type=int, default=8)
    parser.add_argument("--malformed", type=int, default=20)
    parser.add_argument("--too-large", type=int, default=5)
    parser.add_argument("--cut-off", type=int, default=5)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        faults = load(Path(folder), args.images, args.at_once, args.malformed, args.too_large, args.cut_off)
    for fault in faults:
        print(fault)
    print(f"{len(faults)} faults" if faults else "all as it must be")
    return 1 if faults else 0


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(run())
