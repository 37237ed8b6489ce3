"""A folder of images and masks made ready for training: its classes found, its splits listed, in VOC layout."""

import contextlib
import hashlib
import os
import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

from ...colors import voc_color
from ...errors import UserError, reason
from ...files import read_lines, write_text
from ...labels import VOID, LabelSet, from_dict
from ...threads import prefetch
from .. import voc
from ..images import INDEX, decode
from ..inventory import IMAGE_SUFFIXES
from ..masks import MASK_FORMATS
from ..voc import LISTS, save_mask

IMAGES = ("images", "image", "imgs", "img", voc.IMAGES)
MASKS = ("masks", "mask", "labels", "label", "annotations", *voc.MASKS)
"""Names of folders of images and of masks; of several that are there, the first."""
SPLITS = {"train": ("train", "training"), "val": ("val", "valid", "validation"), "test": ("test", "testing")}
"""What the folders of a split may be called."""
BESIDE = ("_labels", "annot", "_annot", "_masks", "_mask", "_annotations")
"""What the folder of a split's masks has after the name of its images' folder."""
ENDINGS = ("", "_L", "_P", "_mask", "_label", "_labels", "_gt", "_seg")
"""What a mask's name may have after its image's."""
NAMES = ("class_dict.csv", "label_colors.txt", "labelmap.txt", "codes.txt")
"""Lists of class names: of CamVid, twice, of CVAT, and of fastai's CamVid, in the order of the indices."""
VOID_NAMES = ("void", "unlabelled", "unlabeled", "ignore")

_LINES = (
    r"(?P<name>[^:,]+)[:,]\s*(?P<r>\d+)\s*,\s*(?P<g>\d+)\s*,\s*(?P<b>\d+)\s*([:,].*)?",
    r"(?P<r>\d+)\s+(?P<g>\d+)\s+(?P<b>\d+)\s+(?P<name>.+)",
)


@dataclass(frozen=True)
class Made:
    """What `init` made of a folder."""

    out: Path
    labels: LabelSet
    splits: dict[str, int]
    """Images of each split."""
    notes: list[str]
    """What a person should know, a line each."""


@dataclass(frozen=True)
class _Seen:
    """What one mask holds: indices, with the palette's colors where it has one, or colors."""

    path: Path
    indices: tuple[int, ...] | None
    colors: tuple[tuple[int, int, int], ...] | None


def init(folder, images: str | None = None, masks: str | None = None, out=None, progress=None) -> Made:
    """Write a data set in VOC layout into `out` (default FOLDER/voc): links to the images and masks, lists, labels.yaml.

    Found in `folder` are images/ and masks/ (or other usual names; `images` and `masks` give them), with a folder a split
    inside, or inside a folder a split; train/ and train_labels/ (CamVid); or VOC layout, which gets labels.yaml alone and,
    where it has none, lists. Where val has no folder, it is a fifth of the images: those whose names have the smallest SHA-256.
    Index masks give a class a value, 255 being void, masks of colors a class a color; names are read where a list of them
    (`NAMES`) is there. Masks that training would misread (0 and 255 alone, gray levels, palettes that differ, no PNGs) are
    written anew as index masks, the others are links; the folder itself is left as it is.

    `out` appears whole or not at all. `progress(done, total)` counts the masks read. Raises UserError where nothing fits or
    `out` is there already, and for masks that are JPEGs, damaged, of more than 255 classes or of both kinds.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; give the folder of your images and masks")
    in_place = not (images or masks or out) and _is_voc(folder)
    target = folder if in_place else Path(out or folder / "voc")
    found = folder / "labels.yaml" if in_place else target
    if os.path.lexists(found):
        raise UserError(f"{found}: is there already; delete it" + ("" if in_place else ", or give another place by --out"))
    first, second = ((voc.IMAGES,), voc.MASKS) if in_place else ((images,) if images else IMAGES, (masks,) if masks else MASKS)
    samples, splits, notes = _samples(folder, first, second)
    seen = _scan([mask for _, mask in samples.values()], progress)
    list_path = next((folder / name for name in NAMES if (folder / name).is_file()), None)
    entries = _read_names(list_path) if list_path else []
    labels, table, more = _classes(seen, entries, str(list_path or folder))
    notes += more
    if any(name in labels.names for name, _ in entries):
        notes.append(f"names of classes from {list_path}")
    changed = {s.path for s in seen if not _reads_as(s, labels, table)}
    if in_place and changed:
        target = folder / "voc"
        if os.path.lexists(target):
            raise UserError(f"{target}: is there already; delete it, or give another place by --out")
    if changed:
        notes.append(f"{len(changed)} of {len(samples)} masks are written anew as index masks, the others are links")
    lists = {f"{LISTS}/{name}.txt": "".join(f"{item}\n" for item in sorted(ids)) for name, ids in splits.items()}
    text = yaml.safe_dump(labels.as_dict(), sort_keys=False, default_flow_style=None, allow_unicode=True)
    if target == folder:
        for name, content in lists.items():
            if not (folder / name).exists():
                write_text(folder / name, content)
        write_text(folder / "labels.yaml", text)
    else:
        with _new_folder(target) as place:
            for item, (image, mask) in samples.items():
                _link(image, place, target, f"{voc.IMAGES}/{item}{image.suffix}")
                if mask in changed:
                    save_mask(place / "SegmentationClass" / f"{item}.png", _translate(mask, table), labels)
                else:
                    _link(mask, place, target, f"SegmentationClass/{item}.png")
            for name, content in (lists | {"labels.yaml": text}).items():
                write_text(place / name, content)
    return Made(target, labels, {name: len(ids) for name, ids in splits.items()}, notes)


def _is_voc(folder: Path) -> bool:
    return (folder / voc.IMAGES).is_dir() and any((folder / name).is_dir() for name in voc.MASKS)


# Which files belong together, and to which split.


def _samples(folder: Path, images, masks):
    """Image and mask by id, the ids of each split, and what to tell."""
    pairs, notes = {}, []
    for split, (first, second) in _folders(folder, images, masks).items():
        pairs[split], more = _pair(first, second)
        notes += more
        notes.append(f"{first} with {second}: {len(pairs[split])} images")
    names = [item for part in pairs.values() for item in part]
    if len(set(names)) < len(names):
        pairs = {split: {f"{split}_{item}": files for item, files in part.items()} for split, part in pairs.items()}
        notes.append("images of different splits have the same name: each is named after its split")
    samples = {item: files for part in pairs.values() for item, files in part.items()}
    splits = {split: sorted(part) for split, part in pairs.items()}
    if None in splits:
        there = {path.stem: read_lines(path) for path in sorted((folder / LISTS).glob("*.txt"))}
        if there:
            listed = {name: ids for name, ids in there.items() if ids and samples.keys() >= {*ids}}
            if not listed:
                raise UserError(
                    f"{folder / LISTS}: no list there has an image and a mask for each of its ids; add what is missing"
                )
            return samples, listed, notes
        splits = {"train": splits[None]}
    if "val" not in splits:
        ids = sorted(splits["train"], key=lambda item: hashlib.sha256(item.encode()).digest())
        if len(ids) < 2:
            raise UserError(f"{folder}: one image with a mask; two at least, one to train on and one to validate on")
        count = max(1, round(len(ids) / 5))
        splits |= {"train": ids[count:], "val": ids[:count]}
        notes.append(f"no folder of val: {count} of the {len(ids)} images are chosen for it by the hash of their names")
    return samples, splits, notes


def _folders(folder: Path, images, masks) -> dict:
    """The folders of the images and masks of each split, or of None where they are not split."""
    found = {}
    for split, names in SPLITS.items():
        candidates = [(folder / i / n, folder / m / n) for n in names for i in images for m in masks]
        candidates += [(folder / n / i, folder / n / m) for n in names for i in images for m in masks]
        candidates += [(folder / n, folder / f"{n}{b}") for n in names for b in BESIDE]
        found[split] = next(filter(_are_folders, candidates), None)
    if found["train"]:
        return {split: pair for split, pair in found.items() if pair}
    pair = next(filter(_are_folders, ((folder / i, folder / m) for i in images for m in masks)), None)
    if pair:
        return {None: pair}
    raise UserError(
        f"{folder}: no images with masks; wanted are {images[0]}/ and {masks[0]}/, or train/ and train_labels/; "
        "name the two folders by --images and --masks"
    )


def _are_folders(pair) -> bool:
    return all(path.is_dir() for path in pair)


def _pair(images: Path, masks: Path):
    """Image and mask of each stem that has both, and what to tell of the rest."""
    first, second = _by_stem(images), _by_stem(masks)
    ending = max(ENDINGS, key=lambda ending: sum(stem + ending in second for stem in first))
    pairs = {stem: (path, second[stem + ending]) for stem, path in first.items() if stem + ending in second}
    if not pairs:
        names = ", ".join(next(iter(part.values())).name if part else "nothing" for part in (first, second))
        raise UserError(f"{masks}: no mask has the name of an image in {images} (they hold, for one, {names}); rename them")
    notes = []
    for what, place, count in (("images", images, len(first)), ("masks", masks, len(second))):
        if count > len(pairs):
            notes.append(f"{place}: {count - len(pairs)} of {count} {what} have no partner and are left out")
    return pairs, notes


def _by_stem(folder: Path) -> dict[str, Path]:
    found = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith("."):
            if path.stem in found:
                raise UserError(f"{path}: another file has its name but for the ending ({found[path.stem].name}); remove one")
            found[path.stem] = path
    return found


# Which classes the masks have.


def _scan(paths: list[Path], progress) -> list[_Seen]:
    seen = []
    for one in prefetch(_look, paths, os.cpu_count()):
        seen.append(one)
        if progress:
            progress(len(seen), len(paths))
    return seen


def _look(path: Path) -> _Seen:
    image = _open(path)
    if image.mode in INDEX:
        if image.mode in ("L", "P"):  # ten times as fast as numpy
            indices = sorted(index for _, index in image.getcolors())
        else:
            indices = np.unique(np.array(image)).astype(int).tolist()
        if indices[-1] > VOID:
            raise UserError(
                f"{path}: label {indices[-1]}; class indices end at 254 and {VOID} is void. Are these instances? Export classes"
            )
        palette = image.mode == "P" and np.array(image.getpalette("RGB")).reshape(-1, 3).tolist()
        colors = tuple(tuple(palette[i]) if i < len(palette) else (0, 0, 0) for i in indices) if palette else None
        return _Seen(path, tuple(indices), colors)
    counted = image.convert("RGB").getcolors(VOID)
    if counted is None:
        raise UserError(
            f"{path}: more than {VOID} colors; a mask has a color a class. Was it resized, or saved as JPEG? Export it anew "
            "as PNG"
        )
    return _Seen(path, None, tuple(color for _, color in counted))


def _open(path: Path) -> Image.Image:
    if path.suffix.lower() in (".jpg", ".jpeg"):
        raise UserError(f"{path}: a mask as JPEG, whose compression changes labels; export the masks as PNG")
    image = decode(path, MASK_FORMATS)
    return image.getchannel(0) if image.mode in ("LA", "PA") else image


def _codes(image: Image.Image) -> np.ndarray:
    """int [H, W]: R, G and B of each pixel in one number."""
    colors = np.array(image.convert("RGB")).astype(np.uint32)
    return colors[..., 0] << 16 | colors[..., 1] << 8 | colors[..., 2]


def _read_names(path: Path) -> list[tuple[str, tuple[int, int, int] | None]]:
    """Names of the classes and, where it states them, their colors, in the order of the file."""
    lines = [line for line in read_lines(path) if not line.startswith("#")]
    if path.name == "codes.txt":
        return [(line, None) for line in lines]
    if path.suffix == ".csv" and lines and not re.fullmatch(_LINES[0], lines[0]):
        lines = lines[1:]  # the names of the columns
    entries = []
    for line in lines:
        found = next(filter(None, (re.fullmatch(pattern, line) for pattern in _LINES)), None)
        color = tuple(int(found[c]) for c in "rgb") if found else (256,)
        if max(color) > 255:
            raise UserError(f"{path}: '{line}' is no name with a color of three numbers from 0 to 255; mend the line")
        entries.append((found["name"].strip(), color))
    return entries


def _classes(seen: list[_Seen], entries, place: str):
    """The label set, the class of every index or color that the masks hold, and what to tell."""
    first = seen[0]
    for one in seen:
        if (one.indices is None) != (first.indices is None):
            raise UserError(
                f"{one.path}: holds {_kind(one)}, but {first.path} {_kind(first)}; masks of one set are of one kind"
            )
    if first.indices is None or _by_color(seen, entries):
        return _of_colors(sorted({color for one in seen for color in one.colors}), entries, place)
    return _of_indices(seen, entries, place)


def _kind(one: _Seen) -> str:
    return "colors" if one.indices is None else "indices"


def _by_color(seen: list[_Seen], entries) -> bool:
    """Whether the indices of palette masks mean nothing, but their colors do."""
    if not all(one.colors for one in seen):
        return False
    pairs = {pair for one in seen for pair in zip(one.indices, one.colors, strict=True)}
    named = [color for _, color in entries]
    in_order = all(index < len(named) and named[index] == color for index, color in pairs)
    differ = len({index for index, _ in pairs}) < len(pairs)
    return differ or (not in_order and all(color in named for _, color in pairs))


def _of_colors(colors, entries, place: str):
    named = [(name, color) for name, color in entries if color]
    notes = []
    if entries and not named:
        notes.append(f"{place}: names without colors; not used, for the masks are of colors")
    known = {color for _, color in named}
    usual = voc_color(VOID)
    others = [c for c in colors if c not in known and c != usual]
    if named and others:
        notes.append(
            f"{place}: {len(others)} colors of the masks have no name there, {others[0]} for one; classes of their own"
        )
    if not named and set(colors) == {(0, 0, 0), (255, 255, 255)}:
        named, others = [("background", (0, 0, 0)), ("foreground", (255, 255, 255))], []
    every = named + [("class_" + "_".join(map(str, c)), c) for c in others]
    labels, targets = _label_set(every, place)
    return labels, {usual: VOID} | dict(zip([color for _, color in every], targets, strict=True)), notes


def _of_indices(seen: list[_Seen], entries, place: str):
    values = sorted({index for one in seen for index in one.indices})
    # A ramp of grays is no palette that someone chose.
    palette = {i: c for s in seen if s.colors for i, c in zip(s.indices, s.colors, strict=True) if c != (i, i, i)}
    top, notes = max([v for v in values if v != VOID], default=0), []
    if entries and len(entries) <= top:
        notes.append(f"{place}: {len(entries)} names, but the masks have label {top}; not used")
        entries = []
    keys = list(range(max(top + 1, len(entries))))
    if values == [0, VOID]:
        keys = values
        notes.append("the masks are 0 and 255 alone: background and foreground, and nothing is void")
        entries = entries if len(entries) == 2 else [("background", None), ("foreground", None)]
    elif not entries and not palette and min(np.diff(values), default=0) >= 10:
        keys = [v for v in values if v != VOID]
        notes.append(f"the values {', '.join(map(str, keys))} are taken as gray levels: a class each, numbered in their order")
    entries = entries or [(f"class_{key}", None) for key in keys]
    every = [(name, color or palette.get(key)) for key, (name, color) in zip(keys, entries, strict=True)]
    colors = [color or voc_color(number) for number, (_, color) in enumerate(every)]
    if len({*colors}) < len(colors):  # colors that are alike tell nothing
        colors = [voc_color(number) for number in range(len(every))]
    labels, targets = _label_set([(name, c) for (name, _), c in zip(every, colors, strict=True)], place)
    return labels, {VOID: VOID} | dict(zip(keys, targets, strict=True)), notes


def _label_set(every, place: str) -> tuple[LabelSet, list[int]]:
    """The label set of names with colors, those that mean void left out, and the class of each."""
    classes = [entry for entry in every if entry[0].lower() not in VOID_NAMES]
    void = [color for name, color in every if name.lower() in VOID_NAMES]
    void += [voc_color(number) for number in range(VOID, 0, -1)]
    used = [color for _, color in classes]
    if len(classes) < 2:
        raise UserError(f"{place}: the masks hold one class alone; there is nothing to tell apart")
    if len(classes) > VOID:
        raise UserError(
            f"{place}: {len(classes)} classes; {VOID} at most. Were masks resized, or saved as JPEG? Export them anew"
        )
    value = {
        "classes": [{"name": name, "color": list(color)} for name, color in classes],
        "void_color": list(next(color for color in void if color not in used)),
    }
    numbers = {entry: number for number, entry in enumerate(classes)}
    return from_dict(value, place), [numbers.get(entry, VOID) for entry in every]


def _reads_as(one: _Seen, labels: LabelSet, table) -> bool:
    """Whether training reads the file itself as the table says."""
    if one.path.suffix.lower() != ".png":
        return False
    if one.indices is not None:
        return all(table.get(index) == index for index in one.indices)
    read = {color: index for index, color in enumerate(labels.mask_colors)} | {labels.void_color: VOID}
    return all(read.get(color) == table[color] for color in one.colors)


def _translate(path: Path, table) -> np.ndarray:
    """The mask uint8 [H, W] by the table of its indices or colors."""
    image = _open(path)
    values = np.array(image).astype(int) if isinstance(next(iter(table)), int) else _codes(image)
    found, places = np.unique(values, return_inverse=True)
    keys = found.tolist() if isinstance(next(iter(table)), int) else [(c >> 16, c >> 8 & 255, c & 255) for c in found.tolist()]
    return np.array([table[key] for key in keys], np.uint8)[places].reshape(values.shape)


# The folder that is made.


@contextlib.contextmanager
def _new_folder(target: Path):
    """Yield a temporary folder beside `target`, which becomes `target` at the end, or is removed."""
    place = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        place = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
        place.chmod(0o755)
        yield place
        place.rename(target)
    except OSError as error:
        raise UserError(f"{target}: cannot be made ({error.strerror or reason(error)}); give another place by --out") from error
    finally:
        if place:
            shutil.rmtree(place, ignore_errors=True)


def _link(source: Path, place: Path, target: Path, name: str) -> None:
    (place / name).parent.mkdir(exist_ok=True)
    os.symlink(os.path.relpath(os.path.realpath(source), os.path.realpath((target / name).parent)), place / name)
