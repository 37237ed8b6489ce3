"""Masks of videos and cameras, as a video with the same number of frames, size and timestamps."""

import contextlib
import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from .. import visualize
from ..errors import UserError, reason
from ..files import atomic_write
from ..labels import LabelSet
from ..threads import BackgroundWorker, GracefulShutdown, prefetch
from .predictor import Predictor

MODES = ("overlay", "side-by-side", "palette")
ENCODING = {"crf": "18", "preset": "veryfast"}
"""H.264 options: visually lossless, and fast compared with the network."""
LEGEND = 0.75
"""Strength of the legend over the frame."""
MILLISECOND = Fraction(1, 1000)


@dataclass
class Clip:
    """A video that is being read."""

    name: str
    frames: Iterator[tuple[int, np.ndarray]]
    """Timestamp in units of `base`, rising, and RGB uint8 [h, w, 3], upright by the rotation in the file."""
    base: Fraction
    """Unit of the timestamps, in seconds."""
    rate: Fraction
    """Mean frames per second."""
    total: int | None = None
    """Number of frames that the file states."""
    audio: bool = False
    """Whether the file has sound."""


@dataclass
class WrittenVideo:
    """A video that `predict_video` wrote."""

    path: Path
    frames: int
    seconds: float
    """Time that it took."""
    notes: list[str]
    """Hints for the user."""


def predict_video(
    predictor: Predictor,
    source: str | Path,
    out: str | Path,
    mode: str = "overlay",
    frames: int | None = None,
    on_frame: Callable[[int, int | None], None] | None = None,
    legend: bool = True,
) -> WrittenVideo:
    """Write OUT/NAME.mp4 (H.264, without sound) with the masks of a video file, or of a camera until Ctrl-C.

    An odd width or height needs pixels of format 4:4:4, which not every player shows.

    Args:
        predictor: the model.
        source: a video file, or `camera:NUMBER`.
        out: folder to write.
        mode: `overlay`, `palette`, or `side-by-side`, which is twice as wide.
        frames: stop after this many frames.
        on_frame: called with (done, total) after each frame; total is None if unknown.
        legend: draw the colors and names of the frame's classes at its bottom.

    Raises:
        UserError: there is no such video or camera, no frame of it can be read, or the mode is `index`.
    """
    if mode not in MODES:
        raise UserError(
            f"{source}: {mode} masks cannot be stored in a video: compression changes values; use --mode {' or '.join(MODES)}"
        )
    with contextlib.ExitStack() as stack:
        clip = stack.enter_context(_camera(str(source)) if str(source).startswith("camera:") else _file(Path(source)))
        path = Path(out) / f"{clip.name}.mp4"
        if path.exists() and Path(source).exists() and path.samefile(source):
            raise UserError(f"{path}: would overwrite the input; choose another --out folder")
        if frames and clip.total:
            clip.total = min(frames, clip.total)
        began, done = time.monotonic(), 0
        with (
            atomic_write(path) as temporary,
            contextlib.closing(Encoder(temporary, path, clip, legend)) as encoder,
            BackgroundWorker() as worker,
        ):
            # Decoding, drawing and encoding run in their own threads, beside the network.
            decoded = stack.enter_context(contextlib.closing(prefetch(lambda _: next(clip.frames, None), itertools.count(), 1)))
            for frame in itertools.islice(decoded, frames):
                if frame is None:
                    break
                moment, pixels = frame
                worker(encoder, moment, pixels, predictor.predict(pixels), predictor.labels, mode)
                done += 1
                if on_frame:
                    on_frame(done, clip.total)
            if not done:
                raise UserError(f"{source}: no frame can be read; is the file complete?")
        notes = ["the sound is left out"] * clip.audio
        if done and (seen := predictor.looking_size(pixels)) != pixels.shape[:2]:
            notes.append(f"frames were reduced to {seen[1]}x{seen[0]} for the network")
        if clip.total and done < clip.total:
            notes.append(f"the file states {clip.total} frames: is it cut short?")
        return WrittenVideo(path, done, time.monotonic() - began, notes)


def picture(image: np.ndarray, mask: np.ndarray, labels: LabelSet, mode: str, legend: bool = False) -> np.ndarray:
    """Return the drawn frame, RGB uint8 [h, w, 3], or [h, 2 w, 3] for side-by-side; a legend lies over its last rows."""
    drawn = visualize.color(mask, labels) if mode == "palette" else visualize.overlay(image, mask, labels)
    if legend:
        # In the order of the classes, so that the legend does not change its order between frames.
        strip = visualize.legend([np.unique(mask)], labels, mask.shape[1])
        if 3 * len(strip) <= len(drawn):
            bottom = drawn[-len(strip) :]
            bottom[:] = (bottom * (1 - LEGEND) + strip * LEGEND + 0.5).astype(np.uint8)
    return np.concatenate([image, drawn], 1) if mode == "side-by-side" else drawn


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except av.FFmpegError as error:
        raise UserError(f"{path}: not a readable video ({reason(error)}); damaged or truncated: copy it again") from error


@contextlib.contextmanager
def _file(path: Path) -> Iterator[Clip]:
    with _readable(path):
        # Any file may be a playlist; its links to the network are not followed.
        container = av.open(str(path.absolute()), options={"protocol_whitelist": "file"})
    with container:
        if not container.streams.video:
            raise UserError(f"{path}: contains no video")
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        rate = stream.average_rate or stream.guessed_rate or Fraction(25)
        base = stream.time_base or 1 / rate
        total = stream.frames or round((container.duration or 0) * rate / av.time_base) or None
        yield Clip(path.stem, _decoded(container, path, base, rate), base, rate, total, bool(container.streams.audio))


def _decoded(container: Any, path: Path, base: Fraction, rate: Fraction) -> Iterator[tuple[int, np.ndarray]]:
    last, size, step = None, None, max(1, round(1 / (rate * base)))
    with _readable(path):
        for frame in container.decode(video=0):
            pixels = np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90))
            height, width = pixels.shape[:2]
            if (width, height) != (size := size or (width, height)):
                raise UserError(
                    f"{path}: the frame size changes from {size[0]}x{size[1]} to {width}x{height}; split the video there"
                )
            # Damaged files have frames without a timestamp, or with an earlier one.
            if frame.pts is not None and (last is None or frame.pts > last):
                last = frame.pts
            else:
                last = 0 if last is None else last + step
            yield last, np.ascontiguousarray(pixels)


@contextlib.contextmanager
def _camera(source: str) -> Iterator[Clip]:
    number = source.removeprefix("camera:")
    if not number.isdecimal():
        raise UserError(f"{source}: give a camera by its number, such as camera:0")
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # the error below is clearer than its warnings
    camera = cv2.VideoCapture(int(number))
    try:
        if not camera.isOpened():
            raise UserError(f"{source}: no such camera, or another program uses it; the first camera is camera:0")
        with GracefulShutdown() as stop:

            def frames() -> Iterator[tuple[int, np.ndarray]]:
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
    """Encodes pictures of one size into an H.264 file, opened at the first picture."""

    def __init__(self, path: Path, name: Path, clip: Clip, legend: bool):
        self.path, self.name, self.clip, self.legend = path, name, clip, legend
        self.container: Any = None

    def __call__(self, moment: int, image: np.ndarray, mask: np.ndarray, labels: LabelSet, mode: str) -> None:
        """Draw and encode a frame at a timestamp."""
        pixels = picture(image, mask, labels, mode, self.legend)
        with self._translated_errors():
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
        """Flush the codec, and close the file."""
        if self.container:
            with self._translated_errors(), self.container:
                self.container.mux(self.stream.encode())

    @contextlib.contextmanager
    def _translated_errors(self) -> Iterator[None]:
        try:
            yield
        except av.FFmpegError as error:
            raise UserError(f"{self.name}: cannot be written ({reason(error)})") from error
