"""Archives laid out as those of the published models, with values of our own, and a server for them."""

import contextlib
import http.server
import io
import tarfile
import tempfile
import threading
from pathlib import Path

import torch
from torch import nn

from seg.config import from_dict
from seg.labels import BUILT_IN
from seg.models.factory import build_model
from seg.weights.zoo import PublishedModel
from tests.helpers.released import checkpoint

FOLDERS = {
    "xception65_voc_trainaug": "deeplabv3_pascal_train_aug/model.ckpt",
    "xception65_voc_trainval": "deeplabv3_pascal_trainval/model.ckpt",
    "xception65_cityscapes_train": "deeplabv3_cityscapes_train/model.ckpt",
    "xception71_cityscapes_trainfine": "train_fine/model.ckpt",
    "xception71_cityscapes_trainvalfine": "trainval_fine/model.ckpt",
    "xception65_ade20k_train": "deeplabv3_xception_ade20k_train/model.ckpt",
    "xception65_coco": "xception_65_coco_pretrained/x65-b2u1s2p-d48-2-3x256-sc-cr300k_init.ckpt",
    "xception41_imagenet": "xception_41/model.ckpt",
    "xception65_imagenet": "xception/model.ckpt",
    "xception71_imagenet": "xception_71/model.ckpt",
}
"""Where the checkpoint is in each archive."""


def network(model: PublishedModel, width: float = 1.0) -> nn.Module:
    """Build the network that was published, by hand, with random weights and moving statistics."""
    torch.manual_seed(len(model.name))
    settings = {"backbone": model.backbone, "context": model.context, "activation_placement": "tf", "width": width}
    if model.labels is None:
        settings["image_classes"] = 1001
    classes = len(BUILT_IN[model.labels]) + model.unused_outputs if model.labels else 21
    made = build_model(from_dict({"model": settings}, "test").model, classes)
    for name, value in made.state_dict().items():
        if name.endswith("running_mean"):
            value.normal_(0, 0.1)
        elif name.endswith("running_var"):
            value.uniform_(0.8, 1.2)
    return made.eval()


def archive(name: str, made: nn.Module, extra: dict[str, bytes] | None = None, compress: int = 1) -> bytes:
    """Pack a network as the published archive of a name: its checkpoint with momentum slots, and the files beside it."""
    place = FOLDERS[name]
    folder = place.partition("/")[0]
    others = {f"{folder}/frozen_inference_graph.pb": b"\x0a\x04graph", f"{folder}/._model.ckpt.index": b"Mac OS X"}
    buffer = io.BytesIO()
    with tempfile.TemporaryDirectory() as scratch, tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=compress) as tar:
        checkpoint(Path(scratch), made)
        for path in sorted(Path(scratch).iterdir()):
            tar.add(path, path.name.replace("model.ckpt-7", place))
        for member, content in (others | (extra or {})).items():
            info = tarfile.TarInfo(member)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


class Handler(http.server.BaseHTTPRequestHandler):
    """Serve `server.files`; the next answer ends after `server.stops.pop()` bytes."""

    def do_GET(self):
        content = self.server.files.get(self.path.rpartition("/")[2])
        begin = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").removesuffix("-"))
        self.server.requests.append((self.path, begin))
        if content is None:
            return self.send_error(404)
        self.send_response(206 if begin else 200)
        if begin:
            self.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
        self.send_header("ETag", '"1"')
        self.send_header("Content-Length", str(len(content) - begin))
        self.end_headers()
        stop = self.server.stops.pop(0) if self.server.stops else len(content)
        with contextlib.suppress(OSError):
            self.wfile.write(content[begin : begin + stop])

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def serving(files: dict[str, bytes]):
    """Yield a server with `.url`, its `.files`, `.stops` and `.requests`."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.files, server.stops, server.requests = files, [], []
        server.url = f"http://127.0.0.1:{server.server_port}/models"
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield server
        server.shutdown()
