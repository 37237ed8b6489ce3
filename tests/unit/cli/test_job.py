import json

import av
import cv2
import numpy as np
from PIL import Image

from tests.helpers.command import run, the_line, truth_of_val


def toy_video(path):
    """A video of two frames."""
    with av.open(str(path), "w", format="mpegts") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(2):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")))
        container.mux(stream.encode())


def test_train_evaluate_and_predict_work_in_turn(place, capsys):
    code, out, err = run(capsys, "train", "small.yaml", "data.root=voc")
    assert code == 0
    assert "train 2/2" in err
    assert "images/s" in err
    weights = "runs/small/best.safetensors"
    assert weights in out

    code, out, _ = run(capsys, "evaluate", weights, "--quiet", "--json", "scores.json", "--save-masks", "saved")
    assert code == 0
    scores = json.loads((place / "scores.json").read_text())
    assert f"mIoU {100 * scores['miou']:.2f} %" in out
    assert scores["images"] == len(list((place / "saved").iterdir())) == 3
    assert {"classes", "confusion_matrix", "iou", "miou_all", "pixel_accuracy", "settings"} <= scores.keys()
    assert scores["settings"]["output_stride"] == 16
    assert scores["settings"]["run"] == "small"
    assert scores["settings"]["network"] == "DeepLab V3+, xception41, width 0.125, no decoder"

    saved = ["--predictions", "saved", "--truth", truth_of_val(place), "--boundary"]
    code, out, _ = run(capsys, "evaluate", *saved, "--json", "masks.json", "--quiet")
    assert code == 0
    of_masks = json.loads((place / "masks.json").read_text())
    assert of_masks["confusion_matrix"] == scores["confusion_matrix"]
    assert f"mean Boundary IoU {100 * of_masks['boundary']['miou']:.2f} %" in out

    code, _, _ = run(capsys, "evaluate", weights, "--boundary", "--quiet", "--json", "boundary.json")
    assert json.loads((place / "boundary.json").read_text())["boundary"] == of_masks["boundary"]

    flags = ["--output-stride", "8", "--scales", "0.75,1", "--flip", "--canvas", "65"]
    code, _, _ = run(capsys, "evaluate", weights, *flags, "--quiet", "--json", "more.json")
    more = json.loads((place / "more.json").read_text())
    assert "boundary" not in more
    settings = more["settings"]
    assert (code, settings["scales"], settings["flip"], settings["canvas"]) == (0, [0.75, 1.0], True, 65)

    code, out, _ = run(capsys, "predict", weights, "voc/JPEGImages", "--out", "masks", "--quiet")
    assert code == 0
    assert len(list((place / "masks").iterdir())) == len(list((place / "voc" / "JPEGImages").iterdir()))
    film = cv2.VideoWriter("film.avi", cv2.VideoWriter_fourcc(*"MJPG"), 25, (64, 48))
    for _ in range(3):
        film.write(np.full((48, 64, 3), 110, np.uint8))
    film.release()
    code, out, err = run(capsys, "predict", weights, "film.avi", "voc/JPEGImages", "--out", "both", "--json", "made.json")
    assert code == 0
    made = json.loads((place / "made.json").read_text())
    assert made["images"] == [f"both/toy_{number:03d}.png" for number in range(9)] and made["problems"] == []
    (film,) = made["videos"]
    assert (film["path"], film["frames"]) == ("both/film.mp4", 3) and film["seconds"] > 0
    assert "masks" not in out and "both/film.mp4: 3 frames, " in out and "overlay images in both" in out
    assert "predict 3/3" in err

    code, out, _ = run(capsys, "info", weights)
    assert code == 0
    assert "classes: background, aeroplane" in out


def test_an_archive_is_made_and_checked(place, weights, capsys):
    code, out, _ = run(
        capsys, "submit", weights, "--split", "val", "--out", "submission", "--flip", "--json", "sent.json", "--quiet"
    )
    assert code == 0
    assert json.loads((place / "sent.json").read_text()) == {"archive": "submission/results.tar.gz", "masks": 3, "kept": 0}
    assert "submission/results.tar.gz: 3 masks, in the format that the server accepts" in out
    check = ["submit", "--check", "submission/results.tar.gz", "--data", "voc", "--split"]
    assert run(capsys, *check, "val", "--json", "checked.json", "--quiet")[:2] == (0, out.splitlines()[0] + "\n")
    assert json.loads((place / "checked.json").read_text()) == {"archive": "submission/results.tar.gz", "masks": 3}
    assert "comp6_val_cls/toy_006.png: not in results" in the_line(capsys, *check, "train")
    assert "voc: has no test split; the test images are another download" in the_line(capsys, "submit", weights, "--out", "x")


def test_no_process_waits_for_the_videos_of_the_others(place, weights, capsys, monkeypatch):
    asked = []
    monkeypatch.setattr("seg.distributed.all_gather", lambda value: asked.append(value) or [value])
    monkeypatch.setattr("seg.cli.predict.predict_videos", lambda *given: ["a video"])
    (place / "film.mp4").write_bytes(b"")
    assert run(capsys, "predict", weights, "film.mp4", "--out", "out", "--quiet")[0] == 0
    assert asked == []
    assert run(capsys, "predict", weights, "film.mp4", "--out", "out", "--json", "made.json", "--quiet")[0] == 0
    assert asked == [["a video"]]


def test_one_damaged_video_of_several_does_not_stop_the_others(place, weights, capsys):
    (place / "films").mkdir()
    (place / "films" / "a.mp4").write_bytes(b"junk")
    toy_video(place / "films" / "b.mts")
    code, out, err = run(capsys, "predict", weights, "films", "--out", "out", "--json", "made.json", "--quiet")
    made = json.loads((place / "made.json").read_text())
    assert code == 2 and "films/a.mp4: not a readable video" in err and "out/b.mp4: 2 frames" in out
    assert len(made["problems"]) == 1 and [video["path"] for video in made["videos"]] == ["out/b.mp4"]
    assert "a.mp4: not a readable video" in the_line(capsys, "predict", weights, "films/a.mp4", "--out", "out")


def test_predict_says_how_images_are_read(place, weights, capsys):
    Image.fromarray(np.full((48, 64), 4000, np.uint16)).save(place / "deep.png")
    code, _, err = run(capsys, "predict", weights, "deep.png", "--out", "out", "--quiet")
    assert (code, err) == (0, "note: 1 image: 12 bits per channel, stored in 16: scaled to 8 (deep.png)\n")


def test_an_exported_graph_has_the_scores_of_its_weights(place, weights, capsys):
    arguments = ["--format", "openvino", "--out", "small.xml", "--canvas", "65", "--json", "export.json", "--quiet"]
    code, out, _ = run(capsys, "export", weights, *arguments)
    assert code == 0 and "small.xml: float32 graph; canvas 65, output stride 16" in out
    assert json.loads((place / "export.json").read_text())["equal"] > 0.999
    matrices = []
    for flags in (["small.xml"], [weights, "--canvas", "65"], [weights, "--canvas", "65", "--runtime", "openvino"]):
        assert run(capsys, "evaluate", *flags, "--quiet", "--json", "scores.json")[0] == 0
        matrices.append(np.array(json.loads((place / "scores.json").read_text())["confusion_matrix"]))
    for other in matrices[1:]:
        assert np.abs(matrices[0] - other).sum() <= 0.001 * other.sum()
    assert run(capsys, "predict", "small.xml", "voc/JPEGImages", "--out", "masks", "--quiet")[0] == 0
    assert len(list((place / "masks").iterdir())) == 9
