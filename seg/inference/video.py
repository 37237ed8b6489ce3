"""Masks of videos and cameras: a video of as many frames, of the same size, each at its own time."""

import contextlib
import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from torch import nn

from .. import visualize
from ..config import InferenceConfig
from ..errors import UserError, reason
from ..files import atomic_write
from ..labels import LabelSet
from ..threads import BackgroundWorker, GracefulShutdown, prefetch
from .predictor import output_stride, predict_mask

MODES = ("overlay", "side-by-side", "palette")
ENCODING = {"crf": "18", "preset": "veryfast"}
"""Of H.264: hardly to be told from the frames that are drawn, and quick beside the network."""
MILLISECOND = Fraction(1, 1000)


@dataclass
class Clip:
    """A video that is being read."""

    name: str
    frames: Iterator[tuple[int, np.ndarray]]
    """Time in units of `base` seconds, rising, and RGB uint8 [h, w, 3], upright by the rotation in the file."""
    base: Fraction
    rate: Fraction
    """Frames a second, on average."""
    total: int | None = None
    """Frames, by the file's word."""
    audio: bool = False


@dataclass
class Written:
    path: Path
    frames: int
    seconds: float
    """That it took."""
    notes: list[str]


def predict_video(
    model: nn.Module, labels: LabelSet, policy: InferenceConfig, source, out, mode="overlay", frames=None, on_frame=None
) -> Written:
    """Write OUT/NAME.mp4 (H.264) of a video file, whole or not at all, or of `camera:0` until Ctrl-C; at most `frames` frames.

    mode: `overlay`, `palette`, or `side-by-side`, twice as wide. An odd side asks for pixels of format 4:4:4, which not every
    player shows. `on_frame(done, total)` is called after each frame; total is None where it is not known.
    Raises UserError where there is no such video or camera, where nothing in it can be read, or for mode `index`.
    """
    if mode not in MODES:
        raise UserError(f"{source}: a video has no {mode} masks, whose values it would not keep; --mode {', '.join(MODES)}")
    with contextlib.ExitStack() as stack:
        stack.enter_context(output_stride(model, policy.output_stride))
        clip = stack.enter_context(_camera(source) if str(source).startswith("camera:") else _file(Path(source)))
        path = Path(out) / f"{clip.name}.mp4"
        if path.exists() and Path(source).exists() and path.samefile(source):
            raise UserError(f"{path}: would overwrite the input; choose another --out folder")
        if frames and clip.total:
            clip.total = min(frames, clip.total)
        began, done = time.monotonic(), 0
        with (
            atomic_write(path) as temporary,
            contextlib.closing(Encoder(temporary, path, clip)) as encoder,
            BackgroundWorker() as behind,
        ):
            # Decoding goes on ahead of the network, and drawing and encoding behind it, each in a thread.
            decoded = stack.enter_context(contextlib.closing(prefetch(lambda _: next(clip.frames, None), itertools.count(), 1)))
            for frame in itertools.islice(decoded, frames):
                if frame is None:
                    break
                moment, pixels = frame
                behind(encoder, moment, pixels, predict_mask(model, pixels, policy), labels, mode)
                done += 1
                if on_frame:
                    on_frame(done, clip.total)
            if not done:
                raise UserError(f"{source}: not a frame of it can be read; is it a whole video?")
        notes = ["its sound is left out"] * clip.audio
        if clip.total and done < clip.total:
            notes.append(f"{clip.total} frames by the file's word: is it cut short?")
        return Written(path, done, time.monotonic() - began, notes)


def picture(image: np.ndarray, mask: np.ndarray, labels: LabelSet, mode: str) -> np.ndarray:
    """RGB uint8 [h, w, 3], or [h, 2 w, 3] side by side."""
    if mode == "palette":
        return visualize.color(mask, labels)
    drawn = visualize.overlay(image, mask, labels)
    return drawn if mode == "overlay" else np.concatenate([image, drawn], 1)


@contextlib.contextmanager
def _readable(path: Path):
    try:
        yield
    except av.FFmpegError as error:
        raise UserError(f"{path}: not a readable video ({reason(error)}); damaged or cut short: copy it again") from error


@contextlib.contextmanager
def _file(path: Path):
    with _readable(path):
        # A file may be a playlist, whatever its name: it is not followed to the network.
        container = av.open(str(path.absolute()), options={"protocol_whitelist": "file"})
    with container:
        if not container.streams.video:
            raise UserError(f"{path}: has no video in it")
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        rate = stream.average_rate or stream.guessed_rate or Fraction(25)
        base = stream.time_base or 1 / rate
        total = stream.frames or round((container.duration or 0) * rate / av.time_base) or None
        yield Clip(path.stem, _decoded(container, path, base, rate), base, rate, total, bool(container.streams.audio))


def _decoded(container, path: Path, base: Fraction, rate: Fraction):
    last, size, step = None, None, max(1, round(1 / (rate * base)))
    with _readable(path):
        for frame in container.decode(video=0):
            pixels = np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90))
            height, width = pixels.shape[:2]
            if (width, height) != (size := size or (width, height)):
                raise UserError(f"{path}: its frames change from {size[0]}x{size[1]} to {width}x{height}; cut it in two there")
            # Damaged files have frames without a time, or with that of an earlier one.
            if frame.pts is not None and (last is None or frame.pts > last):
                last = frame.pts
            else:
                last = 0 if last is None else last + step
            yield last, np.ascontiguousarray(pixels)


@contextlib.contextmanager
def _camera(source: str):
    number = source.removeprefix("camera:")
    if not number.isdecimal():
        raise UserError(f"{source}: a camera is named by its number, as camera:0")
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # whose lines of warning say less than ours
    camera = cv2.VideoCapture(int(number))
    try:
        if not camera.isOpened():
            raise UserError(f"{source}: no such camera here, or another program has it; the first one is camera:0")
        with GracefulShutdown() as stop:

            def frames():
                began, last = time.monotonic(), -1
                while not stop.asked:
                    there, pixels = camera.read()
                    if not there:
                        return
                    last = max(last + 1, int((time.monotonic() - began) / MILLISECOND))
                    yield last, cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)

            yield Clip(f"camera{number}", frames(), MILLISECOND, Fraction(30))
    finally:
        camera.release()


class Encoder:
    """Pictures into an H.264 file. It is opened by the first, whose size all have."""

    def __init__(self, path: Path, name: Path, clip: Clip):
        self.path, self.name, self.clip, self.container = path, name, clip, None

    def __call__(self, moment: int, image: np.ndarray, mask: np.ndarray, labels: LabelSet, mode: str) -> None:
        pixels = picture(image, mask, labels, mode)
        with self._told():
            if self.container is None:
                self._open(pixels.shape[1], pixels.shape[0])
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = moment, self.clip.base
            self.container.mux(self.stream.encode(frame))

    def _open(self, width: int, height: int) -> None:
        container = av.open(str(self.path), "w", format="mp4")
        self.stream = container.add_stream("libx264", rate=self.clip.rate, options=ENCODING)
        self.stream.codec_context.time_base = self.clip.base
        self.stream.width, self.stream.height = width, height
        self.stream.pix_fmt = "yuv444p" if width % 2 or height % 2 else "yuv420p"
        self.container = container

    def close(self) -> None:
        if self.container:
            with self._told(), self.container:
                self.container.mux(self.stream.encode())

    @contextlib.contextmanager
    def _told(self):
        try:
            yield
        except av.FFmpegError as error:
            raise UserError(f"{self.name}: cannot be written ({reason(error)})") from error
