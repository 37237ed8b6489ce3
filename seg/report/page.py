"""The page of an evaluation, and another evaluation read back from its own."""

import base64
import json
import re
import zlib
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path

import numpy as np

from .. import __version__
from ..errors import UserError, reason
from ..evaluation.boundary import Boundary
from ..evaluation.compare import CONFIDENCE, Comparison, compare, read_scores, require_same, scores_of
from ..evaluation.metrics import Scores
from ..files import atomic_write
from ..labels import VOID, LabelSet
from .curves import HEIGHT, LEFT, RIGHT, WIDTH, chart
from .pictures import Picture, planes

NAME = "index.html"


@dataclass
class Against:
    """Another evaluation of the same images."""

    source: str
    scores: Scores
    pictures: dict[str, str] = field(default_factory=dict)
    """By the image's name the picture in its page, as JSON; empty where it has no page."""

    def require_same(self, labels: LabelSet, names) -> None:
        """Raises UserError where it is not of these classes and of the images of these names."""
        try:
            require_same(self.scores, labels, names)
        except ValueError as error:
            raise UserError(
                f"{self.source}: cannot stand beside this evaluation: {error}; give an evaluation of the same split"
            ) from error

    def prediction(self, name: str, picture: Picture) -> bytes:
        """Its prediction of an image, uint8 [height, width] of the picture; empty where it has none of that size."""
        if name not in self.pictures:
            return b""
        try:
            other = json.loads(self.pictures[name])
            masks = planes(base64.b64decode(other["masks"], validate=True), other["width"], other["height"])
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{self.source}: the picture of {name} is damaged ({reason(error)}); write the report anew"
            ) from error
        return masks[1].tobytes() if masks[1].shape == (picture.height, picture.width) else b""


def read_against(source) -> Against:
    """The evaluation in the folder of a report, or in the JSON that `seg evaluate --json` writes. Raises UserError."""
    path = Path(source)
    if not path.is_dir():
        return Against(str(source), read_scores(path))
    path = path / NAME
    try:
        page = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: no report can be read ({reason(error)}); write one with seg evaluate --report") from error
    # In these scripts no < stands as it is, so that the next one ends them.
    held = dict(re.findall(r'<script type="application/json" id="(data|picture-\d+)">([^<]*)</script>', page))
    try:
        numbers = json.loads(held["data"])["numbers"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"{path}: not a report by this version; write it anew with seg evaluate --report") from error
    scores = scores_of(numbers, path)
    pictures = {one.name: held[f"picture-{index}"] for index, one in enumerate(scores.each) if f"picture-{index}" in held}
    return Against(str(source), scores, pictures)


def write_report(
    folder,
    scores: Scores,
    settings: dict,
    pictures: dict[int, Picture],
    boundary: Boundary | None = None,
    curves: dict[str, list[tuple[int, float]]] | None = None,
    against: Against | None = None,
) -> Path:
    """Write folder/index.html and give its path. It needs no other file and no network.

    scores: with those of each image. settings: of JSON's types. pictures: by the number of the image in `scores.each`. curves:
    of `read_curves`. Raises UserError where `against` is of other images or classes, or the page cannot be written.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    comparison = None
    if against:
        against.require_same(scores.labels, [one.name for one in scores.each])
        comparison = compare(against.scores, scores)
    environment = Environment(
        loader=PackageLoader(__package__, ""), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"percent": percent, "points": points}
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}
    files = resources.files(__package__)
    path = Path(folder) / NAME
    page = environment.get_template("page.html").stream(
        version=__version__,
        style=files.joinpath("page.css").read_text(encoding="utf-8"),
        script=files.joinpath("page.js").read_text(encoding="utf-8"),
        scores=scores,
        settings={name.replace("_", " "): text(value) for name, value in settings.items()},
        classes=class_rows(scores, boundary, comparison),
        matrix=matrix_rows(scores),
        colors=[css(color) for color in scores.labels.colors],
        boundary=boundary,
        charts=[chart(*curve) for curve in (curves or {}).items()],
        frame={"width": WIDTH, "height": HEIGHT, "left": LEFT, "right": WIDTH - RIGHT},
        against=against,
        comparison=comparison,
        confidence=CONFIDENCE,
        data=page_data(scores, settings, boundary, against),
        pictures=in_page(scores, pictures, against),
    )
    with atomic_write(path) as temporary:
        page.enable_buffering()
        page.dump(str(temporary), encoding="utf-8")
    return path


def page_data(scores: Scores, settings: dict, boundary: Boundary | None, against: Against | None) -> dict:
    """What the gallery is made from, and what `read_against` reads: the numbers of --json, colors, the IoU of each image.

    That is the mean over the classes present in the image's own truth; null where all of it is void.
    """
    data = {
        "numbers": {**scores.as_dict(), "settings": settings},
        "colors": [*map(list, scores.labels.colors)],
        "void": VOID,
        "void_color": list(scores.labels.void_color),
        "iou": image_ious(scores),
    }
    if boundary:
        data["numbers"]["boundary"] = boundary.as_dict()
    if against:
        order = {one.name: one for one in against.scores.each}
        others = Scores.over(scores.labels, [order[one.name] for one in scores.each])
        pixels = [one["pixels"] for one in others.as_dict()["per_image"]]
        data["against"] = {"source": against.source, "iou": image_ious(others), "pixels": pixels}
    return data


def image_ious(scores: Scores) -> list[float | None]:
    """Mean IoU of each image over the classes present in its truth; None where all of it is void."""
    classes = len(scores.labels)
    alone = [Scores(scores.labels, one.matrix(classes), 1) for one in scores.each]
    return [one.miou if one.present.any() else None for one in alone]


def in_page(scores: Scores, pictures: dict[int, Picture], against: Against | None):
    """(number, JSON) of each picture, one at a time; with `against` its prediction is the third mask."""
    for index in sorted(pictures):
        picture = pictures[index]
        masks, other = picture.masks, against.prediction(scores.each[index].name, picture) if against else b""
        if other:
            masks = zlib.compress(planes(masks, picture.width, picture.height)[:2].tobytes() + other)
        held = {"width": picture.width, "height": picture.height, "masks": base64.b64encode(masks).decode()}
        if picture.photo:
            held["photo"] = base64.b64encode(picture.photo).decode()
        yield index, held


def class_rows(scores: Scores, boundary: Boundary | None, comparison: Comparison | None) -> list[dict]:
    """What the page says of each class, the highest IoU first, those without one last."""
    truth = np.zeros(len(scores.labels), int)
    for one in scores.each:
        for index in {entry[0] for entry in one.entries}:
            truth[index] += 1
    rows = [
        {
            "index": index,
            "name": name,
            "color": css(scores.labels.colors[index]),
            "iou": scores.iou[index],
            "accuracy": scores.accuracy[index],
            "images": int(truth[index]),
            "boundary": boundary.iou[index] if boundary else None,
            "other": comparison.first.iou[index] if comparison else None,
        }
        for index, name in enumerate(scores.labels.names)
    ]
    return sorted(rows, key=lambda row: (np.isnan(row["iou"]), -row["iou"]))


def matrix_rows(scores: Scores) -> list[dict]:
    """The rows of the confusion matrix: what the pixels of each class of the truth were predicted as, as shares of them."""
    totals = scores.matrix.sum(1)
    return [
        {"name": name, "pixels": int(total), "cells": [(int(n), n / total if total else 0.0) for n in row]}
        for name, total, row in zip(scores.labels.names, totals, scores.matrix, strict=True)
    ]


def percent(value, digits: int = 2) -> str:
    return "-" if value is None or np.isnan(value) else f"{100 * value:.{digits}f}"


def points(value) -> str:
    """A difference of two fractions, in percentage points."""
    return "-" if value is None or np.isnan(value) else f"{100 * value:+.2f}"


def css(color) -> str:
    return "#{:02x}{:02x}{:02x}".format(*color)


def text(value) -> str:
    """A setting as people write it."""
    if isinstance(value, list | tuple):
        return ", ".join(map(text, value))
    if value is None or isinstance(value, bool):
        return {None: "none", True: "yes", False: "no"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)
