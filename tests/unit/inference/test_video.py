import os
import signal
import struct
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest

from seg import visualize
from seg.config import InferenceConfig
from seg.inference import video
from seg.inference.predictor import Predictor
from seg.labels import VOC
from tests.helpers.toy import Reader, refused, toy_sample, written

NATIVE = InferenceConfig(canvas=None)
RATE = Fraction(30000, 1001)


def labeled(number, size=(40, 50)):
    mask = toy_sample(number, size)[1]
    return np.where(mask == 255, 0, mask).astype(np.uint8)


def film(path, count, size=(40, 50), times=None, codec="ffv1", sound=False):
    """A video for whose frame n `Reader` predicts labeled(n); `times` in milliseconds."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=RATE, options={} if codec == "ffv1" else {"qp": "0"})
        stream.height, stream.width = size
        stream.pix_fmt = "bgr0" if codec == "ffv1" else "rgb24"
        if times:
            stream.codec_context.time_base = Fraction(1, 1000)
        if sound:
            container.add_stream("pcm_s16le", rate=8000)
        for number in range(count):
            frame = av.VideoFrame.from_ndarray(written(labeled(number, size)), format="rgb24")
            if times:
                frame.pts, frame.time_base = times[number], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def predict(source, out, mode="overlay", **options):
    return video.predict_video(Predictor(Reader(), VOC, NATIVE), source, out, mode, **options)


def read(path):
    """Rate and frames RGB of a video, as OpenCV reads it."""
    capture, frames = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG), []
    while (got := capture.read())[0]:
        frames.append(got[1][..., ::-1])
    return capture.get(cv2.CAP_PROP_FPS), frames


@pytest.fixture
def drawn(monkeypatch):
    """(image, mask) of every frame that is drawn."""
    seen, picture = [], video.picture
    monkeypatch.setattr(video, "picture", lambda *given: seen.append(given[:2]) or picture(*given))
    return seen


def test_a_video_of_100_frames_gives_100_frames_with_their_masks(tmp_path, drawn):
    source, told = film(tmp_path / "a.mkv", 100), []
    made = predict(source, tmp_path / "out", "palette", on_frame=lambda *at: told.append(at))
    assert (made.path, made.frames, made.notes) == (tmp_path / "out" / "a.mp4", 100, [])
    for number, (image, mask) in enumerate(drawn):
        np.testing.assert_array_equal(image, written(labeled(number)))
        np.testing.assert_array_equal(mask, labeled(number))
    rate, frames = read(made.path)
    assert len(drawn) == len(frames) == 100
    assert rate == pytest.approx(float(RATE), rel=1e-3)
    for number, frame in enumerate(frames):
        assert np.abs(frame.astype(int) - VOC.palette[labeled(number)]).mean() < 20
    assert [done for done, _ in told] == list(range(1, 101))
    assert told[-1][1] == 100
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.mp4"]


@pytest.mark.parametrize("size", [(40, 50), (41, 50), (40, 51), (41, 51)])
def test_a_video_keeps_its_size_and_side_by_side_is_twice_as_wide(tmp_path, size):
    source = film(tmp_path / "a.mkv", 2, size)
    assert [frame.shape for frame in read(predict(source, tmp_path).path)[1]] == [(*size, 3)] * 2
    frame = read(predict(source, tmp_path / "wide", "side-by-side").path)[1][0]
    assert frame.shape == (size[0], 2 * size[1], 3)
    image = written(labeled(0, size))
    wanted = np.concatenate([image, visualize.overlay(image, labeled(0, size), VOC)], 1)
    assert np.abs(frame.astype(int) - wanted).mean() < 12


def test_frames_keep_their_times(tmp_path):
    times = [0, 40, 50, 300, 310, 1000]
    made = predict(film(tmp_path / "a.mkv", 6, times=times), tmp_path)
    with av.open(str(made.path)) as container:
        got = [float(frame.pts * frame.time_base) for frame in container.decode(video=0)]
    np.testing.assert_allclose(got, np.array(times) / 1000, atol=1e-3)


def test_a_rotated_video_is_read_upright(tmp_path, drawn):
    source = film(tmp_path / "a.mp4", 1, codec="libx264rgb")
    data = bytearray(source.read_bytes())
    place = data.index(b"tkhd") + 4 + 40  # the matrix: a quarter turn clockwise
    data[place : place + 36] = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, 50 << 16, 0, 1 << 30)
    source.write_bytes(data)
    ((frame,), made) = read(source)[1], predict(source, tmp_path / "out")
    np.testing.assert_array_equal(drawn[0][0], frame)
    np.testing.assert_array_equal(drawn[0][1], np.rot90(labeled(0), -1))
    assert read(made.path)[1][0].shape == (50, 40, 3)


def test_a_video_may_be_limited_to_its_first_frames_and_loses_its_sound(tmp_path):
    source = film(tmp_path / "a.mkv", 9, sound=True)
    made = predict(source, tmp_path, frames=4)
    assert (made.frames, len(read(made.path)[1])) == (4, 4)
    assert made.notes == ["the sound is left out"]


def test_a_file_that_is_not_a_video_is_refused_and_nothing_is_written(tmp_path):
    whole = film(tmp_path / "a.mp4", 4, codec="libx264rgb").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "text.mp4").write_text("not a video " * 99)
    (tmp_path / "list.mp4").write_text("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n")
    for name in ("cut", "empty", "text", "list"):
        with refused(tmp_path / f"{name}.mp4", "video"):
            predict(tmp_path / f"{name}.mp4", tmp_path / "out")
    with refused("index", "overlay"):
        predict(tmp_path / "a.mp4", tmp_path / "out", "index")
    with refused("would overwrite the input"):
        predict(tmp_path / "a.mp4", tmp_path)
    assert (tmp_path / "a.mp4").read_bytes() == whole
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_an_error_in_the_middle_leaves_nothing(tmp_path, monkeypatch):
    def fails(*_):
        raise KeyboardInterrupt

    source = film(tmp_path / "a.mkv", 9)
    with pytest.raises(KeyboardInterrupt):
        predict(source, tmp_path / "out", on_frame=lambda done, total: done == 5 and fails())
    assert not list((tmp_path / "out").iterdir())


class Camera:
    """OpenCV's camera: 5 frames, or frames until Ctrl-C."""

    def __init__(self, number):
        self.number, self.given = number, 0

    def isOpened(self):
        return self.number < 2

    def read(self):
        self.given += 1
        if self.number == 1 and self.given == 3:
            os.kill(os.getpid(), signal.SIGINT)
        there = self.number == 1 or self.given <= 5
        return there, np.ascontiguousarray(written(labeled(0))[..., ::-1]) if there else None

    def release(self):
        pass


def test_a_camera_is_filmed_until_it_ends_or_ctrl_c(tmp_path, monkeypatch, drawn):
    with monkeypatch.context() as patched:
        patched.setattr(cv2, "VideoCapture", Camera)
        made = predict("camera:0", tmp_path)
        assert predict("camera:1", tmp_path).frames >= 2
        with refused("camera:2", "no such camera"):
            predict("camera:2", tmp_path)
    assert (made.path, made.frames, len(read(made.path)[1])) == (tmp_path / "camera0.mp4", 5, 5)
    np.testing.assert_array_equal(drawn[0][1], labeled(0))
    with refused("camera:front", "camera:0"):
        predict("camera:front", tmp_path)


@pytest.mark.parametrize("mode", video.MODES)
def test_a_frame_has_a_legend_over_its_last_rows_in_the_order_of_the_classes(mode):
    image = np.full((240, 320, 3), 120, np.uint8)
    mask = np.zeros((240, 320), np.uint8)
    mask[:200, :100], mask[:, 310:] = 15, 8  # person covers more than cat
    plain, drawn = (video.picture(image, mask, VOC, mode, legend) for legend in (False, True))
    assert plain.shape == drawn.shape and plain.dtype == drawn.dtype == np.uint8
    rows = np.flatnonzero((plain != drawn).any((1, 2)))
    assert 0 < 240 - rows[0] <= 80
    strip = drawn[rows[0] :, -320:].astype(int)
    places = []
    for index in (0, 8, 15):
        mixed = video.LEGEND * VOC.palette[index] + (1 - video.LEGEND) * plain[rows[0] :, -320:]
        places.append(np.argwhere(np.abs(strip - mixed).max(-1) <= 1)[:, 1].min())
    assert places == sorted(places)
    small = video.picture(image[:30, :40], mask[:30, :40], VOC, mode, True)  # there is no room
    np.testing.assert_array_equal(small, video.picture(image[:30, :40], mask[:30, :40], VOC, mode, False))
