"""Download weights from a hub, and upload them. The hub is a local server."""

import base64
import contextlib
import hashlib
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import timm
import torch
from safetensors.torch import save

from seg.config import ModelConfig, from_dict
from seg.labels import VOC
from seg.models.factory import build_model
from seg.weights.file import Metadata, write
from seg.weights.loading import open_model, read_into
from tests.helpers.configs import CONFIG
from tests.helpers.paths import ROOT
from tests.helpers.toy import same


@contextlib.contextmanager
def serving(handler):
    """Yield the address of a local server with this request handler."""
    handler.log_message = lambda *_: None
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


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

    with serving(Hub) as address:
        yield address, weights


def convert(address, name, out):
    environment = {**os.environ, "HF_ENDPOINT": address, "HF_HOME": str(out.parent / "cache")}
    command = [sys.executable, "-m", "seg", "convert", f"timm:{name}", "--out", str(out)]
    return subprocess.run(command, capture_output=True, text=True, env=environment)


def test_weights_are_downloaded_by_name(hub, tmp_path):
    address, weights = hub
    done = convert(address, "xception41.tf_in1k", tmp_path / "backbone.safetensors")
    assert done.returncode == 0, done.stderr
    model = build_model(ModelConfig(backbone="xception41", activation_placement="tf"), 21)
    read_into(model, tmp_path / "backbone.safetensors")
    assert torch.equal(model.backbone.conv2.conv.weight, weights["stem.1.conv.weight"])


def test_weights_missing_on_the_hub_give_one_clear_line(hub, tmp_path):
    done = convert(hub[0], "xception65.tf_in1k", tmp_path / "backbone.safetensors")
    assert done.returncode == 2
    message = done.stderr.splitlines()[-1]
    assert message.startswith("seg: timm:xception65.tf_in1k: cannot be downloaded")
    assert "give its path" in message
    assert "Traceback" not in done.stderr


@pytest.fixture
def own_hub():
    """Address of a hub to which models are pushed, and the files in it by `OWNER/NAME/FILE`."""
    files = {}

    class Hub(BaseHTTPRequestHandler):
        def do_HEAD(self):
            body = files.get(self.path.split("?")[0].strip("/").replace("/resolve/main", ""))
            self.send_response(404 if body is None else 200)
            if body is None:
                self.send_header("X-Error-Code", "RepoNotFound")
            self.send_header("ETag", f'"{hashlib.sha256(body or b"").hexdigest()}"')
            self.send_header("X-Repo-Commit", "0" * 40)
            self.send_header("Content-Length", str(len(body or b"")))
            self.end_headers()
            return body

        def do_GET(self):
            self.wfile.write(self.do_HEAD() or b"")

        def do_POST(self):
            chunked = self.headers.get("Transfer-Encoding") == "chunked"
            sent = self._chunks() if chunked else self.rfile.read(int(self.headers["Content-Length"]))
            place = self.path.split("?")[0]
            url = f"http://{self.headers['Host']}/me/net"
            answer = {"url": url, "commitUrl": f"{url}/commit/0", "commitOid": "0" * 40}
            if self.headers.get("Authorization") != "Bearer hf_ours":
                answer = None
            elif place.endswith("/preupload/main"):
                asked = json.loads(sent)["files"]
                answer = {"files": [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in asked]}
            elif place.endswith("/commit/main"):
                lines = [json.loads(line) for line in sent.splitlines()]
                name = place.removeprefix("/api/models/").removesuffix("/commit/main")
                for value in (line["value"] for line in lines if line["key"] == "file"):
                    files[f"{name}/{value['path']}"] = base64.b64decode(value["content"])
            body = json.dumps(answer or {"error": "who are you?"}).encode()
            self.send_response(200 if answer else 401)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def _chunks(self):
            data = b""
            while size := int(self.rfile.readline(), 16):
                data += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return data

    with serving(Hub) as address:
        yield address, files


def test_shared_weights_are_loaded_by_their_name(own_hub, tmp_path):
    address, files = own_hub
    config = from_dict(CONFIG, "test")
    write(tmp_path / "best.safetensors", build_model(config.model, 21), Metadata(config, VOC, {}))
    (tmp_path / "job.py").write_text(
        "import os, seg\n"
        "from seg.cli.main import main\n"
        "share = ['share', 'best.safetensors', '--out', 'shared', '--push', 'me/net']\n"
        "assert main(share) == 2\n"
        "os.environ['HF_TOKEN'] = 'hf_ours'\n"
        "assert main(share) == 0\n"
        "assert main(['convert', 'hf:me/net', '--out', 'back.safetensors']) == 0\n"
        "assert seg.load('hf:me/net@main').classes[8] == 'cat'\n"
        "assert main(['info', 'hf:me/none']) == 2\n"
        "assert main(['info', 'hf:no name']) == 2\n"
    )
    environment = {
        **os.environ,
        "HF_ENDPOINT": address,
        "HF_HOME": str(tmp_path / "cache"),
        "PYTHONPATH": str(ROOT),
    }
    done = subprocess.run(
        [sys.executable, "job.py"], capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert f"uploaded to {address}/me/net; use it as hf:me/net" in done.stdout
    assert sorted(files) == ["me/net/README.md", "me/net/config.json", "me/net/model.safetensors"]
    assert 'seg.load("hf:me/net")' in files["me/net/README.md"].decode()
    ours, back = (open_model(tmp_path / name)[0].state_dict() for name in ("best.safetensors", "back.safetensors"))
    assert same(ours, back)
    told = [line for line in done.stderr.splitlines() if line.startswith("seg: ")]
    assert ["me/net: cannot be pushed" in told[0], "hf:me/none: cannot be downloaded" in told[1]] == [True, True]
    assert "hf:no name: cannot be downloaded" in told[2] and len(told) == 3
    assert "Traceback" not in done.stderr
