import io
import socket
import sys

import numpy as np
from PIL import Image

from seg.cli.main import main
from tests.helpers.command import the_line


def test_serve_runs_the_network_in_another_runtime_or_an_exported_graph(place, weights, monkeypatch):
    assert main(["export", weights, "--format", "onnx", "--out", "a.onnx", "--quiet"]) == 0
    made, answers = [], []
    monkeypatch.setattr("seg.serve.server.run", lambda app, opened, quiet: None)
    monkeypatch.setattr("seg.serve.app.make_app", made.append)
    for arguments in ([weights], [weights, "--runtime", "torch"], ["a.onnx"]):
        assert main(["serve", *arguments, "--port", "0"]) == 0
        image = (place / "voc" / "JPEGImages" / "toy_000.jpg").read_bytes()
        answers.append(np.array(Image.open(io.BytesIO(made[-1].segment(image, "index").body))))
    plain, folded, graph = (service.predictor.model for service in made)
    assert [type(model.backbone.conv1.norm).__name__ for model in (plain, folded)] == ["BatchNorm2d", "Identity"]
    assert type(graph).__name__ == "ExportedModel"
    assert all((answer == answers[0]).mean() > 0.999 for answer in answers)


def test_serve_reports_missing_weights_a_missing_extra_and_a_port_in_use(place, capsys, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"127.0.0.1 port {port}: Address already in use" in the_line(capsys, "serve", "x.safetensors", "--port", port)
    assert "no such weights file" in the_line(capsys, "serve", "x.safetensors", "--port", "0")
    monkeypatch.delitem(sys.modules, "seg.serve.app")
    monkeypatch.delattr("seg.serve.app")
    monkeypatch.setitem(sys.modules, "fastapi", None)
    assert "pip install 'seg-deeplab[serve]'" in the_line(capsys, "serve", "x.safetensors")
