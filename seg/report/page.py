"""Writes the HTML page of an evaluation, and reads evaluations from such pages."""

from __future__ import annotations

import base64
import json
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import __version__
from ..errors import UserError, reason
from ..evaluation.boundary import Boundary
from ..evaluation.calibration import Calibration
from ..evaluation.compare import CONFIDENCE, Comparison, compare, read_scores, require_same, scores_of
from ..evaluation.metrics import Scores
from ..files import atomic_write
from ..labels import VOID, LabelSet
from .curves import HEIGHT, LEFT, RIGHT, WIDTH, chart
from .pictures import Picture, planes
from .reliability import reliability

if TYPE_CHECKING:
    from jinja2 import Environment

NAME = "index.html"
NONE, MINUS = "\N{EN DASH}", "\N{MINUS SIGN}"
SCRIPTS = ("data.js", "pictures.js", "gallery.js", "viewer.js", "matrix.js")


@dataclass
class Against:
    """Another evaluation of the same images."""

    source: str
    scores: Scores
    pictures: dict[str, str] = field(default_factory=dict)
    """The pictures in its page as JSON, by the name of the image; empty without a page."""

    def require_same(self, labels: LabelSet, names: Sequence[str]) -> None:
        """Raise UserError if it has other classes or names of images."""
        try:
            require_same(self.scores, labels, names)
        except ValueError as error:
            raise UserError(
                f"{self.source}: cannot be compared with this evaluation: {error}; give an evaluation of the same split"
            ) from error

    def compared_with(self, scores: Scores) -> Comparison:
        """The difference to other scores. Raises UserError as `require_same`."""
        self.require_same(scores.labels, [one.name for one in scores.each])
        return compare(self.scores, scores)

    def prediction(self, name: str, picture: Picture) -> bytes:
        """Its prediction of an image, uint8 [height, width] at the size of the picture; empty if there is none of that size."""
        if name not in self.pictures:
            return b""
        try:
            other = json.loads(self.pictures[name])
            masks = planes(base64.b64decode(other["masks"], validate=True), other["width"], other["height"])
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{self.source}: the picture of {name} is damaged ({reason(error)}); write that report again"
            ) from error
        return masks[1].tobytes() if masks[1].shape == (picture.height, picture.width) else b""


def read_against(source: str | Path) -> Against:
    """Read an evaluation from the folder of a report, or from a JSON file of `seg evaluate --json`. Raises UserError."""
    path = Path(source)
    if not path.is_dir():
        return Against(str(source), read_scores(path))
    path = path / NAME
    try:
        page = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path}: the report cannot be read ({reason(error)}); write it again with seg evaluate --report"
        ) from error
    # In these scripts every < is escaped: the next one ends the script.
    held = dict(re.findall(r'<script type="application/json" id="(data|picture-\d+)">([^<]*)</script>', page))
    try:
        numbers = json.loads(held["data"])["numbers"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"{path}: not a report of this version; write it again with seg evaluate --report") from error
    scores = scores_of(numbers, path)
    pictures = {one.name: held[f"picture-{index}"] for index, one in enumerate(scores.each) if f"picture-{index}" in held}
    return Against(str(source), scores, pictures)


def write_report(
    folder: str | Path,
    scores: Scores,
    settings: dict[str, Any],
    pictures: dict[int, Picture],
    boundary: Boundary | None = None,
    curves: dict[str, list[tuple[int, float]]] | None = None,
    against: Against | None = None,
    calibration: Calibration | None = None,
) -> Path:
    """Write folder/index.html, a page that needs no other file and no network, and return its path.

    Args:
        folder: where the page is written.
        scores: with the scores of each image.
        settings: of the evaluation, of JSON's types.
        pictures: by the index of the image in `scores.each`.
        boundary: boundary scores.
        curves: those of `read_curves`.
        against: another evaluation to compare with.
        calibration: confidence and accuracy of the model.

    Raises:
        UserError: `against` has other images or classes, or the page cannot be written.
    """
    comparison = against.compared_with(scores) if against else None
    files = resources.files(__package__)
    path = Path(folder) / NAME
    template = _environment().get_template("page.html")
    page = template.stream(
        version=__version__,
        style=files.joinpath("page.css").read_text(encoding="utf-8"),
        script="".join(files.joinpath(name).read_text(encoding="utf-8") for name in SCRIPTS),
        subject=subject(settings),
        scores=scores,
        settings={name.replace("_", " "): text(value) for name, value in settings.items()},
        classes=class_rows(scores, boundary, comparison),
        matrix=matrix_rows(scores),
        colors=[css(color) for color in scores.labels.colors],
        boundary=boundary,
        calibration=calibration,
        diagram=reliability(calibration) if calibration else None,
        charts=[chart(*curve) for curve in (curves or {}).items()],
        frame={"width": WIDTH, "height": HEIGHT, "left": LEFT, "right": WIDTH - RIGHT},
        against=against,
        comparison=comparison,
        confidence=CONFIDENCE,
        photos=any(picture.photo for picture in pictures.values()),
        missing=missing_parts(settings, pictures, boundary, curves, against),
        data=page_data(scores, settings, boundary, against),
        pictures=in_page(scores, pictures, against),
    )
    with atomic_write(path) as temporary:
        page.enable_buffering()
        page.dump(str(temporary), encoding="utf-8")
    return path


def _environment() -> Environment:
    """Return the template environment of the page."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader(__package__, ""), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"percent": percent, "points": points}
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}
    return environment


def subject(settings: dict[str, Any]) -> str:
    """Subject of the page, for its title: the run and the network, or the source of the weights or masks."""
    known = [str(settings[key]) for key in ("run", "network") if settings.get(key)]
    return ", ".join(known) or str(next((settings[key] for key in ("weights", "predictions") if key in settings), "evaluation"))


def missing_parts(
    settings: dict[str, Any],
    pictures: dict[int, Picture],
    boundary: Boundary | None,
    curves: dict[str, list[tuple[int, float]]] | None,
    against: Against | None,
) -> dict[str, str]:
    """Missing parts of the page, and how to add each."""
    parts = {}
    if not boundary:
        parts["Boundary scores"] = "add --boundary to seg evaluate"
    if not curves and "predictions" not in settings:
        parts["Training curves"] = "run seg report RUN, with the folder of the run"
    if not any(picture.photo for picture in pictures.values()):
        parts["Photos"] = "add --data ROOT to seg evaluate, with the data set of the photos"
    if not against:
        parts["Comparison with another evaluation"] = "add --against, with the folder of its report or its --json file"
    return parts


def page_data(scores: Scores, settings: dict[str, Any], boundary: Boundary | None, against: Against | None) -> dict[str, Any]:
    """The data of the gallery, which `read_against` reads too: the numbers of --json, colors, the mean IoU of each image."""
    numbers = {**scores.as_dict(), "settings": settings}
    if boundary:
        numbers["boundary"] = boundary.as_dict()
    data: dict[str, Any] = {
        "numbers": numbers,
        "colors": [*map(list, scores.labels.colors)],
        "void": VOID,
        "void_color": list(scores.labels.void_color),
        "iou": image_ious(scores),
    }
    if against:
        order = {one.name: one for one in against.scores.each}
        others = Scores.over(scores.labels, [order[one.name] for one in scores.each])
        pixels = [one["pixels"] for one in others.as_dict()["per_image"]]
        data["against"] = {"source": against.source, "iou": image_ious(others), "pixels": pixels}
    return data


def image_ious(scores: Scores) -> list[float | None]:
    """Mean IoU of each image over the classes in its ground truth; None if all of it is void."""
    classes = len(scores.labels)
    alone = [Scores(scores.labels, one.matrix(classes), 1) for one in scores.each]
    return [one.miou if one.present.any() else None for one in alone]


def in_page(scores: Scores, pictures: dict[int, Picture], against: Against | None) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield index and JSON object of each picture; the third mask is the prediction of `against`."""
    for index in sorted(pictures):
        picture = pictures[index]
        masks, other = picture.masks, against.prediction(scores.each[index].name, picture) if against else b""
        if other:
            masks = zlib.compress(planes(masks, picture.width, picture.height)[:2].tobytes() + other)
        held = {"width": picture.width, "height": picture.height, "masks": base64.b64encode(masks).decode()}
        if picture.photo:
            held["photo"] = base64.b64encode(picture.photo).decode()
        yield index, held


def class_rows(scores: Scores, boundary: Boundary | None, comparison: Comparison | None) -> list[dict[str, Any]]:
    """The rows of the table of classes, the highest IoU first, classes without IoU last."""
    truth = np.zeros(len(scores.labels), int)
    for one in scores.each:
        for index in {entry[0] for entry in one.entries}:
            truth[index] += 1
    rows = [
        {
            "index": index,
            "name": name,
            "absent": bool(np.isnan(scores.iou[index])),
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


def matrix_rows(scores: Scores) -> list[dict[str, Any]]:
    """The rows of the confusion matrix: pixels of each class by predicted class, as counts and as shares."""
    totals = scores.matrix.sum(1)
    return [
        {"name": name, "pixels": int(total), "cells": [(int(n), n / total if total else 0.0) for n in row]}
        for name, total, row in zip(scores.labels.names, totals, scores.matrix, strict=True)
    ]


def percent(value: float | None, digits: int = 2) -> str:
    """A fraction in percent; an en dash for None or NaN."""
    return NONE if value is None or np.isnan(value) else f"{100 * value:.{digits}f}"


def points(value: float | None) -> str:
    """A difference of two fractions in percentage points, with a minus sign; an en dash for None or NaN."""
    return NONE if value is None or np.isnan(value) else f"{100 * value:+.2f}".replace("-", MINUS)


def css(color: Iterable[int]) -> str:
    """A color in CSS syntax."""
    return "#{:02x}{:02x}{:02x}".format(*color)


def text(value: Any) -> str:
    """A setting as text for readers."""
    if isinstance(value, list | tuple):
        return ", ".join(map(text, value))
    if value is None or isinstance(value, bool):
        return {None: "none", True: "yes", False: "no"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)
