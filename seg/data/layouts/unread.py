"""Recognizes unsupported formats of annotations, and names a format to export instead."""

import json
import re
from collections.abc import Callable
from pathlib import Path

from .base import Tree

_COCO = "export them as COCO"
ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".7z", ".rar")
_HEAD = 1 << 16
"""Bytes at the start of a file that identify its format."""


def unread_format(tree: Tree) -> str | None:
    """Name the annotations in a folder that has no masks, and the remedy; None: no format is recognized."""
    for suffixes, fits, text in _FORMATS:
        for name in tree.files:
            if name.lower().endswith(suffixes) and fits(tree.folder / name):
                return f"{tree.folder / name}: {text}"
    archive = next((name for name in tree.files if name.lower().endswith(ARCHIVES)), None)
    return f"{tree.folder / archive}: an archive; unpack it first" if archive and not tree.images else None


def _head(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_HEAD).decode("utf-8", "replace")
    except OSError:
        return ""


def _is_label_studio(path: Path) -> bool:
    """Whether a JSON file is a list of Label Studio's tasks, with `annotations`, or its short form, with keys of labels."""
    try:
        tasks = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    task = tasks[0] if isinstance(tasks, list) and tasks else None
    return isinstance(task, dict) and "id" in task and ({"data", "annotations"} <= task.keys() or "annotator" in task)


def _holds(expression: str) -> Callable[[Path], bool]:
    return lambda path: re.search(expression, _head(path), re.DOTALL) is not None


_NUMBERS = r"\A\s*\d+(?:[ \t]+-?[\d.]+(?:e-?\d+)?)"
_FORMATS: tuple[tuple[str | tuple[str, ...], Callable[[Path], bool], str], ...] = (
    (
        ".json",
        _is_label_studio,
        "Label Studio's JSON has no masks; also export 'Brush labels to PNG', or export 'COCO'",
    ),
    (".json", _holds('"(classTitle|geometryType)"'), f"Supervisely's annotations are not supported; {_COCO}, or as masks"),
    (".json", _holds('"via_img_metadata|"_via_|"shape_attributes"'), f"VIA's regions are not supported; {_COCO}"),
    (".json", _holds("darwin_json|darwin-public"), f"V7's Darwin JSON is not supported; {_COCO}, or as semantic masks"),
    (".json", _holds('"className"'), f"SuperAnnotate's JSON is not supported; {_COCO}"),
    (".json", _holds('"label_hash"|"objectHash"'), f"Encord's JSON is not supported; {_COCO}"),
    (".json", _holds('"jsonResponse"|"json_response"'), f"Kili's JSON is not supported; {_COCO}"),
    (
        ".json",
        _holds('"label_classes"|"export_format_version"'),
        f"Hasty's JSON is not supported; {_COCO}, or as semantic PNGs",
    ),
    (".json", _holds('"data_row"|"Labeled Data"'), f"Labelbox's export is not supported; {_COCO}, or as masks"),
    (".ndjson", _holds('"data_row"|"Labeled Data"'), f"Labelbox's export is not supported; {_COCO}, or as masks"),
    (
        ".json",
        _holds(r'"imgHeight".*"objects"'),
        "polygons of Cityscapes, without masks; get the masks _gtFine_labelIds.png, or draw them by the set's own scripts",
    ),
    (".json", _holds(r'"samples"\s*:\s*\[.*"annotations"'), f"Segments.ai's release JSON has no masks; {_COCO}, or as masks"),
    (
        ".geojson",
        _holds("FeatureCollection"),
        "QuPath's shapes are not supported; export labeled images, PNGs of class indices",
    ),
    (".json", _holds(r'"FeatureCollection"'), "GeoJSON is not supported; export labeled images, PNGs of class indices"),
    (".json", _holds(r'"items"\s*:\s*\['), f"Datumaro's JSON is not supported; {_COCO}, or as VOC with masks"),
    (".txt", _holds(_NUMBERS + r"{4}[ \t]*(?:[\r\n]|\Z)"), f"YOLO's boxes have no masks; draw polygons, and {_COCO}"),
    (".txt", _holds(_NUMBERS + "{6}"), f"YOLO's polygons are not supported; {_COCO}"),
    (
        ".xml",
        _holds("<(polygon|polyline|mask)[ >]"),
        f"polygons in XML, such as CVAT's, are not supported; {_COCO}, or as masks",
    ),
    (".xml", _holds("<(bndbox|box)[ >]"), f"boxes have no masks; draw polygons, and {_COCO}"),
    (".csv", _holds(r"(?i)\A[^\n]*(encodedpixels|rle)"), "a table of RLE is not supported; write masks, PNGs of class indices"),
    (
        ".parquet",
        _holds("PAR1"),
        "a table in Parquet is not supported; save its images and masks as files, with a table pairs.csv: image,mask",
    ),
    (".mat", _holds("MATLAB"), "MATLAB's files are not supported; write the masks as PNGs of class indices by imwrite"),
    (
        (".nii", ".nii.gz", ".mha", ".nrrd", ".dcm"),
        lambda path: True,
        "volumes are not supported; write each slice as a PNG, and its mask",
    ),
    ((".npy", ".npz", ".h5", ".hdf5"), lambda path: True, "arrays are not supported; write the images and the masks as PNGs"),
)
"""Suffix, test of the content, and message of each format."""
