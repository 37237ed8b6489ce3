"""Published weights by timm's name, fetched from a hub: here a server of our own on this machine."""

import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import timm
import torch
from safetensors.torch import save

from seg.config import ModelConfig
from seg.models.factory import build_model
from seg.weights.load import read_into


@pytest.fixture
def hub():
    """Address of a hub that holds timm/xception41.tf_in1k alone, and those weights."""
    weights = timm.create_model("xception41", pretrained=False).state_dict()
    body = save(weights)

    class Hub(BaseHTTPRequestHandler):
        def do_HEAD(self):
            found = self.path.split("?")[0] == "/timm/xception41.tf_in1k/resolve/main/model.safetensors"
            self.send_response(200 if found else 404)
            self.send_header("ETag", '"0123456789abcdef"')
            self.send_header("X-Repo-Commit", "0" * 40)
            self.send_header("Content-Length", str(len(body) if found else 0))
            self.end_headers()
            return found

        def do_GET(self):
            if self.do_HEAD():
                self.wfile.write(body)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", weights
        server.shutdown()


def convert(address, name, out):
    environment = {**os.environ, "HF_ENDPOINT": address, "HF_HOME": str(out.parent / "cache")}
    command = [sys.executable, "-m", "seg.cli", "convert", f"timm:{name}", "--out", str(out)]
    return subprocess.run(command, capture_output=True, text=True, env=environment)


def test_weights_are_fetched_by_name(hub, tmp_path):
    address, weights = hub
    done = convert(address, "xception41.tf_in1k", tmp_path / "backbone.safetensors")
    assert done.returncode == 0, done.stderr
    model = build_model(ModelConfig(backbone="xception41", placement="tf"), 21)
    read_into(model, tmp_path / "backbone.safetensors")
    assert torch.equal(model.backbone.conv2.conv.weight, weights["stem.1.conv.weight"])


def test_what_the_hub_does_not_have_is_one_clear_line(hub, tmp_path):
    done = convert(hub[0], "xception65.tf_in1k", tmp_path / "backbone.safetensors")
    assert done.returncode == 2
    message = done.stderr.splitlines()[-1]
    assert message.startswith("seg: timm:xception65.tf_in1k: cannot be had")
    assert "give its path" in message
    assert "Traceback" not in done.stderr
