import base64
import io
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import httpx
import numpy as np
import pytest
from PIL import Image

from seg.inference.images import predict_images
from seg.labels import VOC
from seg.serve import app as serving
from seg.serve import server
from tests.helpers.toy import refused, toy_sample, written
from tests.stress.serve_load import encoded, malformed

MASK = np.where(toy_sample(0)[1] > 20, 0, toy_sample(0)[1])
IMAGE = encoded(written(MASK), "PNG")


def ask(address, content=IMAGE, **more):
    return httpx.post(f"{address}/api/segment", content=content, timeout=30, **more)


def pixels(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)))


def test_the_service_answers_what_seg_predict_writes(address, service, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = encoded(written(MASK), "PNG", exif=exif)
    (tmp_path / "a.png").write_bytes(turned)
    for form, mode in serving.MODES.items():
        predict_images(service.predictor, [tmp_path / "a.png"], tmp_path / mode, mode)
        response = ask(address, turned, params={"format": form})
        assert response.headers["content-type"] == "image/png"
        assert response.content == (tmp_path / mode / "a.png").read_bytes()
    np.testing.assert_array_equal(pixels(ask(address, turned).content), np.rot90(MASK, -1))


def test_the_json_answer_has_class_counts_and_the_mask(address):
    answer = ask(address, headers={"Accept": "application/json"}).json()
    assert (answer["height"], answer["width"]) == MASK.shape
    np.testing.assert_array_equal(pixels(base64.b64decode(answer["mask"])), MASK)
    counts = {each["index"]: each["pixels"] for each in answer["classes"]}
    assert counts == {int(i): int(np.sum(i == MASK)) for i in np.unique(MASK)}
    assert list(counts.values()) == sorted(counts.values(), reverse=True)
    for each in answer["classes"]:
        assert (each["name"], tuple(each["color"])) == (VOC.names[each["index"]], VOC.colors[each["index"]])
        assert each["share"] == pytest.approx(each["pixels"] / MASK.size)


def test_the_json_answer_says_in_which_size_the_network_saw_the_image(address, service):
    def sizes():
        answer = ask(address, headers={"Accept": "application/json"}).json()
        return [(answer[f"{prefix}height"], answer[f"{prefix}width"]) for prefix in ("", "network_")]

    assert sizes() == [MASK.shape, MASK.shape]
    service.predictor.metadata = replace(service.predictor.metadata, trained_size=max(MASK.shape) // 2)
    full, seen = sizes()
    assert full == MASK.shape and max(seen) == max(MASK.shape) // 2


def test_a_form_gives_the_same_answer_as_plain_bytes(address):
    response = httpx.post(f"{address}/api/segment", files={"any": ("../../etc/passwd", IMAGE)}, data={"other": "x"})
    assert response.content == ask(address).content


def test_errors_have_a_status_and_a_json_body(address):
    for status, request in malformed():
        response = httpx.post(f"{address}/api/segment", timeout=30, **request)
        assert (response.status_code, "\n" in response.json()["detail"]) == (status, False), response.text
    for method, path, status in (("GET", "/nothing", 404), ("GET", "/page.html", 404), ("GET", "/api/segment", 405)):
        response = httpx.request(method, address + path)
        assert (response.status_code, list(response.json())) == (status, ["detail"])
        assert status != 404 or response.json()["detail"] == f"no page {path}; images go to POST /api/segment, see /docs"


def test_an_upload_beyond_the_limit_is_refused_before_it_is_complete(address, monkeypatch):
    monkeypatch.setattr(serving, "BYTES", 2**20)
    host, port = address.removeprefix("http://").split(":")
    for head in (b"Content-Length: 2000000", b"Transfer-Encoding: chunked"):
        with socket.create_connection((host, int(port)), timeout=10) as connection:
            connection.sendall(b"POST /api/segment HTTP/1.1\r\nHost: x\r\n" + head + b"\r\n\r\n")
            if b"chunked" in head:
                connection.sendall(b"100001\r\n" + bytes(2**20 + 1) + b"\r\n")
            assert connection.recv(99).startswith(b"HTTP/1.1 413 ")
    assert ask(address).status_code == 200


def test_a_slow_client_is_disconnected_and_delays_nobody(address, service, monkeypatch):
    monkeypatch.setattr(serving, "SECONDS", 0.3)
    monkeypatch.setattr(server, "IDLE", 0.6)
    host, port = address.removeprefix("http://").split(":")
    with (
        socket.create_connection((host, int(port)), timeout=10) as body,
        socket.create_connection((host, int(port)), 10) as head,
    ):
        body.sendall(b"POST /api/segment HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nslow")
        head.sendall(b"POST /api/seg")
        assert ask(address).status_code == 200
        assert body.recv(99).startswith(b"HTTP/1.1 408 ")
        with pytest.raises(ConnectionResetError):
            assert head.recv(99) == b""
            raise ConnectionResetError  # closed is as good
    assert service.held == 0


def test_the_queue_is_limited_and_the_health_check_answers_meanwhile(address, service, monkeypatch):
    monkeypatch.setattr(serving, "WAITING", 2)
    go, began, logits = threading.Event(), threading.Event(), service.predictor.model.logits

    def slow(images):
        began.set()
        assert go.wait(20)
        return logits(images)

    monkeypatch.setattr(service.predictor.model, "logits", slow)
    with ThreadPoolExecutor(2) as pool:
        try:
            asked = [pool.submit(ask, address) for _ in range(2)]
            assert began.wait(20)
            until(lambda: httpx.get(f"{address}/healthz").json() == {"status": "ok", "waiting": 2})
            response = ask(address)
            assert (response.status_code, response.headers["retry-after"]) == (503, "5")
        finally:
            go.set()
        assert [each.result().status_code for each in asked] == [200, 200]
    assert httpx.get(f"{address}/healthz").json() == {"status": "ok", "waiting": 0}


def until(holds, seconds=20):
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_uploads_beyond_the_memory_limit_are_refused(address, service, monkeypatch):
    monkeypatch.setattr(serving, "HELD", len(IMAGE) - 1)
    assert ask(address).status_code == 503
    assert service.held == 0


def test_an_internal_error_reveals_nothing(address, service, monkeypatch):
    def broken(images):
        raise RuntimeError("/home/secret")

    monkeypatch.setattr(service.predictor.model, "logits", broken)
    response = ask(address)
    assert (response.status_code, list(response.json())) == (500, ["detail"])
    assert "secret" not in response.text and "Traceback" not in response.text
    monkeypatch.undo()
    assert ask(address).status_code == 200


def test_the_service_describes_its_model(address, service):
    about = httpx.get(f"{address}/api/model").json()
    assert [each["name"] for each in about["classes"]] == list(VOC.names)
    assert about["name"] == "reader" and about["limits"]["pixels"] == serving.PIXELS
    example = httpx.get(f"{address}/api/example")
    assert pixels(example.content).shape[2] == 3
    assert ask(address, example.content).status_code == 200


def test_the_pages_load_nothing_from_other_servers(address):
    for path in ("/", "/draw.js", "/page.js", "/page.css", "/docs"):
        response = httpx.get(address + path)
        assert response.status_code == 200
        assert "//" not in response.text.replace("http://www.w3.org/2000/svg", "").replace("// ", "")
        assert "default-src 'none'" in response.headers["content-security-policy"]
        assert response.headers["x-content-type-options"] == "nosniff"
        assert "access-control-allow-origin" not in response.headers
    described = httpx.get(f"{address}/openapi.json").json()["paths"]
    assert set(described) == {"/api/segment", "/api/model", "/api/example", "/healthz"}
    assert {"200", "408", "413", "415", "422", "503"} <= set(described["/api/segment"]["post"]["responses"])


def test_the_examples_of_the_documentation_are_what_the_service_answers(address, service):
    described = httpx.get(f"{address}/openapi.json").json()["paths"]

    def example(path, method, status):
        return described[path][method]["responses"][str(status)]["content"]["application/json"]["example"]

    assert example("/api/model", "get", 200) == httpx.get(f"{address}/api/model").json()
    assert example("/healthz", "get", 200) == httpx.get(f"{address}/healthz").json()
    answer = ask(address, params={"format": "json"}).json()
    segmented = example("/api/segment", "post", 200)
    assert segmented.keys() == answer.keys() and segmented["classes"][0].keys() == answer["classes"][0].keys()
    assert segmented["classes"][0]["name"] == VOC.names[-1]
    told = {(status, httpx.post(f"{address}/api/segment", **request).json()["detail"]) for status, request in malformed()}
    told.add((413, ask(address, bytes(serving.BYTES + 1)).json()["detail"]))
    told.add((503, serving.busy().detail))
    for status in (400, 413, 415, 422, 503):
        assert (status, example("/api/segment", "post", status)["detail"]) in told, status


def test_a_port_in_use_is_reported():
    with server.listen("127.0.0.1", 0) as opened:
        port = opened.getsockname()[1]
        with refused(f"127.0.0.1 port {port}", "in use", "--port"):
            server.listen("127.0.0.1", port)
    with refused("nowhere.invalid"):
        server.listen("nowhere.invalid", 0)
    with refused("--port 70000"):
        server.listen("127.0.0.1", 70000)
