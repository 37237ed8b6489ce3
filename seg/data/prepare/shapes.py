"""Painters of the objects in synthetic scenes: each kind has its own shape and surface, and may have any color."""

import colorsys
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import ArrayLike

WHITE = np.ones(3, np.float32)
CIRCLE = np.stack([f(np.arange(72) * np.pi / 36) for f in (np.cos, np.sin)], 1)

Paint = tuple[list[np.ndarray], np.ndarray]
"""Outlines [n, 2] in the unit square around 0, filled by the even-odd rule; and RGB [h, w, 3] at the given points."""


def color(rng: Generator, hues: Sequence[float] = (), vivid: float = 0.9) -> np.ndarray:
    """A random color: RGB, float32, 0 to 1. A share `vivid` is saturated; most have a hue near one of `hues`, 0 to 1."""
    hue = rng.normal(rng.choice(hues), 0.05) % 1 if len(hues) and rng.random() < 0.95 else rng.random()
    saturation = rng.uniform(0.4, 0.95) if rng.random() < vivid else rng.uniform(0, 0.4)
    return np.array(colorsys.hsv_to_rgb(hue, saturation, rng.uniform(0.4, 1)), np.float32)


def fade(image: np.ndarray, factor: ArrayLike) -> np.ndarray:
    """Multiply an image [h, w, 3] by a factor [h, w]. Much faster than numpy's broadcast over three channels."""
    one = np.asarray(factor, np.float32)
    product: np.ndarray = image * cv2.merge((one, one, one))
    return product


def mix(a: np.ndarray, b: np.ndarray, t: ArrayLike) -> np.ndarray:
    """Mix two colors [3], or an image [h, w, 3] and a color or image, in the shares 1 - t and t, with t [h, w] from 0 to 1."""
    t = np.asarray(t, np.float32)
    if a.ndim == 1 == b.ndim:
        return np.asarray(cv2.transform(t, np.stack([b - a, a], 1)))
    mixed: np.ndarray = a + fade(b - a, t)
    return mixed


def noise(rng: Generator, h: int, w: int, cells: float = 3, octaves: int = 4) -> np.ndarray:
    """Smooth noise, float32 [h, w], about 0.5 +- 0.2: a sum of `octaves` grids; the coarsest has `cells` cells per side."""
    total, weight, result = 0.0, 1.0, np.zeros((h, w), np.float32)
    for _ in range(octaves):
        grid = rng.random((int(cells * h / max(h, w)) + 2, int(cells * w / max(h, w)) + 2), np.float32)
        result += np.float32(weight) * cv2.resize(grid, (w, h), interpolation=cv2.INTER_CUBIC)
        total, weight, cells = total + weight, weight * 0.6, min(cells * 2, max(h, w) / 2)
    smooth: np.ndarray = result / np.float32(total)
    return smooth


def _lit(normal: list[np.ndarray], light: np.ndarray, paint: np.ndarray, gloss: float) -> np.ndarray:
    """Light a surface whose unit normals are three arrays [h, w]: diffuse light, and a highlight of strength `gloss`."""
    half = light + np.array([0, 0, 1])
    half /= np.linalg.norm(half)
    shine, diffuse = (np.maximum(sum(n * np.float32(c) for n, c in zip(normal, way, strict=True)), 0) for way in (half, light))
    return mix(fade(paint, 0.3 + 0.8 * diffuse), WHITE, gloss * shine**40)


def _axes(rng: Generator) -> np.ndarray:
    """Three orthogonal unit vectors in a random direction, float32 [3, 3]."""
    x, y = rng.normal(size=(2, 3))
    z = np.cross(x, y)
    return np.stack([a / np.linalg.norm(a) for a in (x, np.cross(z, x), z)]).astype(np.float32)


# Every kind below is painted at unit coordinates u (right) and v (down), lit from `light`: (rng, u, v, light) -> Paint.


def ball(rng: Generator, u: np.ndarray, v: np.ndarray, light: np.ndarray) -> Paint:
    """A sphere with panels, a band or spots, or plain."""
    a, b = color(rng, (0.0, 0.6)), color(rng)
    normal = [u, v, np.sqrt(np.maximum(1 - u * u - v * v, 0))]
    x, y, z = (sum(n * c for n, c in zip(normal, axis, strict=True)) for axis in _axes(rng))
    pattern = rng.integers(4)
    if pattern == 0:
        t = np.floor(np.arctan2(y, x) / (2 * np.pi) * 2 * rng.integers(2, 5)) % 2
    elif pattern == 1:
        t = abs(z) < rng.uniform(0.2, 0.4)
    elif pattern == 2:
        t = np.maximum(np.maximum(abs(x), abs(y)), abs(z)) > rng.uniform(0.9, 0.95)
    else:
        t = 0.4 * noise(rng, *u.shape)
    return [CIRCLE], _lit(normal, light, mix(a, b, t), rng.uniform(0.3, 0.9))


def box(rng: Generator, u: np.ndarray, v: np.ndarray, light: np.ndarray) -> Paint:
    """A cuboid seen from above a corner: three faces of different shade, with tape, a frame or stripes."""
    a, b = color(rng, (0.08,)), color(rng)
    yaw, pitch = rng.uniform(0.4, 1.17), rng.uniform(0.4, 0.8)
    sides = rng.uniform(0.65, 1, 3)
    e1 = np.array([np.cos(yaw), -np.sin(yaw) * np.sin(pitch)]) * sides[0]
    e2 = np.array([-np.sin(yaw), -np.cos(yaw) * np.sin(pitch)]) * sides[1]
    e3 = np.array([0, -np.cos(pitch)]) * sides[2]
    corners = np.array([0 * e1, e1, e1 + e3, e1 + e2 + e3, e2 + e3, e2])
    middle = corners.mean(0)
    scale = 1 / np.linalg.norm(corners - middle, axis=1).max()
    shades = [0.9, 0.55] if light[0] > 0 else [0.55, 0.9]
    faces = [(0 * e1, e1, e3, shades[0]), (0 * e1, e2, e3, shades[1]), (e3, e1, e2, 1.15)]
    pattern, width, count = rng.integers(4), rng.uniform(0.08, 0.15), rng.integers(3, 6)
    t_mix, gain = np.zeros_like(u), np.ones_like(u)
    for start, (pu, pv), (qu, qv), shade in faces:
        du, dv, area = u / scale + middle[0] - start[0], v / scale + middle[1] - start[1], pu * qv - pv * qu
        s, t = (du * qv - dv * qu) / area, (dv * pu - du * pv) / area
        rim = np.minimum(np.minimum(s, 1 - s), np.minimum(t, 1 - t))
        marks = (abs(s - 0.5) < width, rim < width, np.floor(t * count) % 2 == 0, rim < 0)[pattern]
        np.copyto(t_mix, 0.8 * marks, where=rim >= 0)
        np.copyto(gain, shade * (1.08 - 0.16 * t) * np.where(rim < 0.025, 0.6, 1), where=rim >= 0)
    paint = fade(mix(a, b, t_mix), gain)
    return [(corners - middle) * scale], paint


def star(rng: Generator, u: np.ndarray, v: np.ndarray, light: np.ndarray) -> Paint:
    """A star of five points, folded along its arms, of one color or with a rim."""
    a, b = color(rng, (0.13,)), color(rng)
    turn = np.arange(10) * np.pi / 5
    radius = np.where(np.arange(10) % 2, rng.uniform(0.42, 0.54), 1)
    angle, far = np.arctan2(v, u), np.hypot(u, v)
    facet = np.floor(angle / (np.pi / 5))
    facing = np.cos(facet * (np.pi / 5) + np.where(facet % 2, 1.6, -1.0) - np.arctan2(light[1], light[0]))
    # A fifth of the turn, folded at an arm: the level is the same along all of a star's outline, where it is 1.
    part = abs((angle + np.pi / 5) % (2 * np.pi / 5) - np.pi / 5)
    x, y, q = far * np.cos(part), far * np.sin(part), radius[1]
    level = x + y * (1 - q * np.cos(np.pi / 5)) / (q * np.sin(np.pi / 5))
    paint = fade(mix(a, b, 0.35 * far if rng.random() < 0.65 else level > rng.uniform(0.6, 0.8)), 0.8 + 0.35 * facing)
    return [np.stack([np.cos(turn), np.sin(turn)], 1) * radius[:, None]], paint


def ring(rng: Generator, u: np.ndarray, v: np.ndarray, light: np.ndarray) -> Paint:
    """A torus, plain or with bands across, through whose hole one sees what lies behind."""
    a, b = color(rng, (0.05, 0.85)), color(rng)
    hole = rng.uniform(0.42, 0.58)
    far = np.maximum(np.hypot(u, v), 1e-3)
    side = np.clip((far - (1 + hole) / 2) / ((1 - hole) / 2), -1, 1)
    normal = [u / far * side, v / far * side, np.sqrt(1 - side * side)]
    bands = np.floor(np.arctan2(v, u) / (2 * np.pi) * 2 * rng.integers(2, 6)) % 2
    paint = mix(a, b, bands if rng.random() < 0.5 else 0.4 * noise(rng, *u.shape))
    return [CIRCLE, CIRCLE * hole], _lit(normal, light, paint, rng.uniform(0.1, 0.7))


def leaf(rng: Generator, u: np.ndarray, v: np.ndarray, light: np.ndarray) -> Paint:
    """A pointed blade on a stalk, with a midrib and side veins; its edge is smooth or toothed."""
    a, b = color(rng, (0.08, 0.28, 0.34)), color(rng, (0.1, 0.3))
    along = np.linspace(0, 1, 61)
    teeth = 1 - rng.choice([0, 0.14]) * ((along * rng.integers(9, 13)) % 1)
    half = rng.uniform(0.42, 0.56) * np.sin(np.pi * along ** rng.uniform(0.65, 0.85)) ** 0.9 * teeth
    x = along * 1.75 - 0.75
    half[0] = half[-1] = 0
    upper, lower = np.stack([x, -half], 1)[1:], np.stack([x, half], 1)[::-1][1:]
    stalk = np.array([[-0.78, 0.045], [-1, 0.06], [-1, -0.06], [-0.78, -0.045]])
    rib = abs(v) < 0.045 - 0.025 * u
    veins = ((u - rng.uniform(0.5, 0.9) * abs(v)) * rng.uniform(3.5, 5)) % 1 < 0.17
    paint = mix(a, b, np.clip(1.6 * noise(rng, u.shape[0], u.shape[1], 2) - 0.5, 0, 1) * 0.6)
    paint = fade(paint, 0.95 + 0.15 * np.sign(v * light[1]))
    vein = WHITE if a.mean() < 0.6 else a * np.float32(0.3)
    return [np.concatenate([stalk, upper, lower])], mix(paint, vein, np.maximum(0.75 * rib, 0.55 * veins))


def fish(rng: Generator, u: np.ndarray, v: np.ndarray, light: np.ndarray) -> Paint:
    """A fish from the side: eye, tail and back fin; striped or scaled, with a pale belly."""
    a, b = color(rng, (0.06, 0.55)), color(rng)
    x = np.linspace(-0.62, 1, 40)
    t = (x + 0.62) / 1.62
    half = 0.07 * (1 - t) + rng.uniform(0.36, 0.48) * 1.75 * t**0.85 * (1 - t) ** 0.5
    fin = rng.uniform(0.1, 0.2) * np.clip(1 - abs(t - 0.45) / 0.28, 0, 1) ** 0.6
    spread = rng.uniform(0.36, 0.5)
    tail = np.array([[-1, spread], [-0.84, 0], [-1, -spread]])
    outline = np.concatenate([tail, np.stack([x, -half - fin], 1), np.stack([x, half], 1)[::-1]])
    if rng.random() < 0.5:
        marks = (u * rng.uniform(3, 5)) % 1 < 0.4
    else:
        row = np.floor(v * 9)
        marks = np.hypot((u * 6 + 0.5 * (row % 2)) % 1 - 0.5, (v * 9) % 1 - 0.2) > 0.52
    body, tail_rays = (u > -0.6) & (u < 0.48), (u < -0.66) & ((v * 11) % 1 < 0.3)
    paint = mix(a, b, np.where(body, marks, 0.6 * tail_rays))
    paint = mix(paint, WHITE, 0.55 * np.clip(v * 2.4, 0, 1) * (u > -0.6))
    paint = fade(paint, (1 - 0.5 * (abs(np.hypot(u - 0.85, v) - 0.4) < 0.03)) * (1.05 + 0.3 * np.minimum(v, 0)))
    eye = np.hypot(u - 0.68, v + 0.1)
    return [outline], mix(mix(paint, WHITE, eye < 0.12), 0.05 * WHITE, eye < 0.065)
