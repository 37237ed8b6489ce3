"""Synthetic scenes: toy photographs with masks in PASCAL VOC layout, to train a small network within minutes.

The kinds of object differ in shape and surface more than in color: each has usual hues, but an object may have others.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml
from numpy.random import Generator
from PIL import Image

from ...errors import UserError
from ...files import atomic_write, write_text
from ...labels import VOID, LabelSet
from ..voc import save_mask
from . import shapes
from .shapes import color, fade, mix, noise

SCENES = LabelSet(
    ("background", "ball", "box", "star", "ring", "leaf", "fish"),
    ((0, 0, 0), (226, 72, 61), (53, 122, 214), (247, 201, 62), (152, 84, 196), (76, 175, 80), (54, 196, 205)),
)

SIDE, COUNT = (0.4, 0.75), 4
"""Extent of an object as a share of the image's short side, before its kind's scale; and the largest number of objects."""

# Painter, scale that makes the areas similar, smallest ratio of foreshortening, largest tilt from upright in radians.
_KINDS: tuple[tuple[Any, float, float, float], ...] = (
    (shapes.ball, 0.9, 1, 3.2),
    (shapes.box, 1.0, 1, 0.4),
    (shapes.star, 1.2, 0.8, 3.2),
    (shapes.ring, 1.1, 0.75, 3.2),
    (shapes.leaf, 1.3, 0.85, 3.2),
    (shapes.fish, 1.3, 0.9, 0.7),
)


def _thing(rng: Generator, kind: int, extent: float, light: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One object in a patch with room for its shadow: RGB [n, n, 3] and coverage [n, n], 0 to 1."""
    painter, scale, squeeze, tilt = _KINDS[kind]
    radius, angle, fine = extent * scale / 2, rng.uniform(-tilt, tilt), 2
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    flip = np.array([rng.choice([-1, 1]) if painter is shapes.fish else 1, rng.uniform(squeeze, 1)])
    to_pixels = turn * flip * radius * fine
    n = 2 * int(np.ceil(radius) + 2)
    # Drawn twice as fine and then averaged: the patterns are as smooth as the outline.
    grid = np.arange(n * fine, dtype=np.float32) + 0.5 - n * fine / 2
    (p, q), (r, s) = np.linalg.inv(to_pixels).astype(np.float32)
    u, v = p * grid + q * grid[:, None], r * grid + s * grid[:, None]
    outlines, paint = painter(rng, u, v, np.append(turn.T @ light[:2] * flip.round(), light[2]))
    drawn = np.zeros((n * fine, n * fine), np.uint8)
    points = [np.round((o @ to_pixels.T + n * fine / 2 - 0.5) * 16).astype(np.int32) for o in outlines]
    cv2.fillPoly(drawn, points, 255, cv2.LINE_AA, 4)
    paint = cv2.resize(np.minimum(paint, 1), (n, n), interpolation=cv2.INTER_AREA)
    paint = fade(paint, 0.9 + 0.2 * noise(rng, n, n, 6, 2))
    cover = cv2.resize(drawn.astype(np.float32) / 255, (n, n), interpolation=cv2.INTER_AREA)
    room = int(radius * 0.35)
    paint, cover = (cv2.copyMakeBorder(p, room, room, room, room, cv2.BORDER_CONSTANT) for p in (paint, cover))
    return paint, cover


def _texture(rng: Generator, h: int, w: int) -> np.ndarray:
    """A slightly uneven surface [h, w, 3] in related colors: noise, stripes, tiles, patches, or plain."""
    a, *others = (0.8 * color(rng, vivid=0.2) + np.float32(0.1) for _ in range(3))
    b, c = (a + (other - a) * np.float32(rng.uniform(0.3, 0.65)) for other in others)
    angle, period = rng.uniform(0, np.pi), rng.uniform(0.06, 0.22) * max(h, w)
    (y, x), bend = np.ogrid[:h, :w], noise(rng, h, w, 3, 2) * np.float32(rng.choice([0.15, 1.5]))
    along = (np.cos(angle) * x + np.sin(angle) * y).astype(np.float32) / np.float32(period) + bend
    across = (np.cos(angle) * y - np.sin(angle) * x).astype(np.float32) / np.float32(period) + bend
    pattern = rng.integers(5)
    if pattern == 0:
        t = np.clip(3 * noise(rng, h, w, rng.uniform(2, 8)) - 1, 0, 1)
    elif pattern == 1:
        t = np.clip(rng.uniform(0.7, 3) * np.sin(along * np.float32(2 * np.pi)) + 0.5, 0, 1)
    elif pattern == 2:
        brick = along + (np.floor(across) % 2) * rng.choice([0, 0.8])
        t = np.minimum(brick % 1.6, across % 1) < 1.5 / period
    elif pattern == 3:
        t = rng.random((64, 64), np.float32)[np.floor(across).astype(int) % 64, np.floor(along).astype(int) % 64]
    else:
        t = np.zeros((h, w), np.float32)
    grain = noise(rng, h, w, rng.uniform(8, 40), 3)
    return fade(mix(mix(a, b, t), c, np.clip(1.5 * noise(rng, h, w, 1.5, 2) - 0.5, 0, 1)), 0.92 + 0.16 * grain)


def _backdrop(rng: Generator, h: int, w: int) -> np.ndarray:
    """The background [h, w, 3]: one surface or two, with lines, dots and splinters that are not objects."""
    image = _texture(rng, h, w)
    if rng.random() < 0.4:
        slope, level = rng.normal(0, 0.15), rng.uniform(0.25, 0.75) * h
        edge = np.arange(h)[:, None] - level - slope * (np.arange(w) - w / 2)
        image = mix(image, _texture(rng, h, w), np.clip(edge + 0.5, 0, 1))
    short = min(h, w)
    for _ in range(rng.integers(0, 9)):
        start, tone = rng.uniform(0, 1, 2) * (w, h), [float(c) for c in color(rng)]
        draw, reach = rng.integers(3), rng.uniform(0.015, 0.07) * short
        if draw == 0:
            bends = start + np.cumsum(rng.normal(0, short * rng.uniform(0.02, 0.12), (rng.integers(2, 7), 2)), 0)
            cv2.polylines(image, [np.int32(bends * 16)], False, tone, int(rng.integers(1, 3)), cv2.LINE_AA, 4)
        elif draw == 1:
            cv2.circle(image, np.int32(start * 16).tolist(), int(reach * 6), tone, -1, cv2.LINE_AA, 4)
        else:
            cv2.fillPoly(image, [np.int32((start + rng.normal(0, reach, (3, 2))) * 16)], tone, cv2.LINE_AA, 4)
    return image


def _compose(rng: Generator, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Image [h, w, 3], 0 to 1; the object at each pixel [h, w], 0 for none; and the class of every object."""
    h, w = (size, round(size * rng.uniform(0.7, 1)))[:: rng.choice([-1, 1])]
    image, owner, short = _backdrop(rng, h, w), np.zeros((h, w), np.uint8), min(h, w)
    light = np.append(rng.uniform(0.3, 0.75) * np.array([rng.choice([-1, 1]) * rng.uniform(0.3, 1), -1]), 1)
    light /= np.linalg.norm(light)
    depth, classes, areas, seen = rng.uniform(0.15, 0.55), [0], np.zeros(COUNT + 1), np.zeros(COUNT + 1)
    count = rng.integers(1, COUNT + 1, 2).max()
    for _ in range(4 * COUNT):
        if len(classes) > count:
            break
        kind, extent = int(rng.integers(len(_KINDS))), rng.uniform(*SIDE) * short
        paint, cover = _thing(rng, kind, extent, light)
        n, solid = len(cover), cover >= 0.5
        for _ in range(5):
            top, left = (int(rng.uniform(0, side) - n / 2) for side in (h, w))
            there = np.s_[max(top, 0) : max(top + n, 0), max(left, 0) : max(left + n, 0)]
            here = np.s_[max(-top, 0) : h - top, max(-left, 0) : w - left]
            shown, under = solid[here], image[there]
            left_over = seen - np.bincount(owner[there][shown], minlength=COUNT + 1)
            # Objects must be recognizable: enough inside the frame, not covered, and unlike what is behind.
            if shown.sum() < 0.7 * solid.sum() or (left_over[1:] < 0.8 * areas[1:]).any():
                continue
            if np.abs(paint[here] - under)[shown].mean() < 0.17:
                continue
            drop = (-light[:2] * extent * 0.12).tolist()
            shadow = cv2.warpAffine(cover, np.array([[1, 0, drop[0]], [0, 1, drop[1]]]), (n, n))
            shadow = cv2.GaussianBlur(shadow, (0, 0), max(0.04 * extent, 0.5))[here]
            image[there] = mix(fade(under, 1 - depth * shadow), paint[here], cover[here])
            owner[there][shown] = len(classes)
            seen = left_over
            seen[len(classes)] = areas[len(classes)] = shown.sum()
            classes.append(kind + 1)
            break
    return image, owner, np.array(classes, np.uint8)


def scene(seed: int, number: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw a scene. The same arguments give the same arrays.

    Args:
        seed: of the set of scenes, 0 or more.
        number: of the scene in its set, 0 or more.
        size: longer side in pixels, 64 or more; the shorter side is 0.7 to 1 of it.

    Returns:
        RGB image, uint8 [h, w, 3], of one to four objects; and mask, uint8 [h, w], of `SCENES`' indices. Around each object is
        a band of void (255), 3 pixels wide at size 192.

    Raises:
        ValueError: `seed` or `number` is negative.
    """
    rng = np.random.Generator(np.random.PCG64([seed, number]))
    image, owner, classes = _compose(rng, size)
    h, w = owner.shape
    band = np.ones((2 + round(size / 96),) * 2, np.uint8)
    mask = np.where(cv2.dilate(owner, band) != cv2.erode(owner, band), VOID, classes[owner]).astype(np.uint8)
    slope = rng.normal(0, 0.2, 2)
    lamp = 1 + slope[0] * np.linspace(-1, 1, h)[:, None] + slope[1] * np.linspace(-1, 1, w)
    image = fade(image, lamp * (0.85 + 0.3 * noise(rng, h, w, 2, 2)) * rng.uniform(0.95, 1.2))
    image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.3, 0.8))
    image += rng.standard_normal(image.shape, np.float32) * np.float32(rng.uniform(0.005, 0.025))
    return np.clip(image * 255 + 0.5, 0, 255).astype(np.uint8), mask


def write_scenes(
    root: str | Path,
    *,
    train: int = 300,
    val: int = 60,
    size: int = 192,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Write scenes in VOC layout: JPEG images, palette masks, the lists train, val and trainval, and labels.yaml.

    The lists are written last: an interrupted data set has none.

    Args:
        root: the folder to write.
        train: number of training scenes, 1 or more.
        val: number of validation scenes, 1 or more.
        size: longer side in pixels, 64 or more.
        seed: of the set of scenes, 0 or more.
        progress: called with the number of scenes done after each scene.

    Raises:
        UserError: `root` holds images already or cannot be written, or a number is too small.
    """
    root = Path(root)
    if train < 1 or val < 1 or size < 64 or seed < 0:
        raise UserError(f"scenes: need train and val >= 1, size >= 64, seed >= 0; got {train}, {val}, {size}, {seed}")
    if (root / "JPEGImages").exists():
        raise UserError(f"{root}: holds images already (JPEGImages); choose another folder or delete it")
    names = [f"scene_{number:05d}" for number in range(train + val)]
    for number, name in enumerate(names):
        image, mask = scene(seed, number, size)
        with atomic_write(root / "JPEGImages" / f"{name}.jpg") as path:
            Image.fromarray(image).save(path, quality=92, subsampling=0)
        save_mask(root / "SegmentationClass" / f"{name}.png", mask, SCENES)
        if progress is not None:
            progress(number + 1)
    write_text(root / "labels.yaml", yaml.safe_dump(SCENES.as_dict(), sort_keys=False, default_flow_style=None))
    for part, members in (("train", names[:train]), ("val", names[train:]), ("trainval", names)):
        write_text(root / "ImageSets" / "Segmentation" / f"{part}.txt", "".join(f"{name}\n" for name in members))
