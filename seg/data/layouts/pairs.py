"""Pairs images and masks by their names."""

import re
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial, reduce
from operator import and_
from typing import NamedTuple

from ...errors import UserError
from .base import stem

MASK_WORDS = frozenset(
    [
        *("mask", "masks", "label", "labels", "gt", "gts", "groundtruth", "ground", "truth", "seg", "segs", "segmentation"),
        *("segmentations", "segmented", "annotation", "annotations", "annot", "ann", "target", "targets", "manual"),
        *("trimap", "trimaps", "labelids", "labeltrainids", "semantic", "semseg", "anno", "annos", "lesion"),
    ]
)
"""Words in names of masks and their folders."""
IMAGE_WORDS = frozenset(
    [
        *("image", "images", "img", "imgs", "im", "input", "inputs", "rgb", "photo", "photos", "frame", "frames", "picture"),
        *("leftimg8bit", "color", "raw", "sat"),
    ]
)
"""Words in names of images and their folders."""
_SUFFIX_WORDS = frozenset(["jpg", "jpeg", "jpe", "png", "bmp", "tif", "tiff", "gif", "webp"])
_LAST = frozenset(["l", "p"])
"""Last words of the names of CamVid's masks."""
ENDINGS = ("_L", "_P", "_mask", "_label", "_labels", "_gt", "_seg")


Key = Callable[[str], object]


class Pairs(NamedTuple):
    """Names of the masks by the names of their images, and the rule that paired them."""

    masks: dict[str, str]
    how: str


def words(name: str) -> tuple[str, ...]:
    """The words and numbers of a name without suffix, in lower case."""
    return tuple(re.findall(r"[a-z]+|\d+|[^\W\d_a-z]+", name.lower()))


def common_name(name: str) -> tuple[str, ...]:
    """The words of a name without words for image or mask, and without second suffixes (x.jpg.png)."""
    found = [word for word in words(name) if word not in MASK_WORDS | IMAGE_WORDS | _SUFFIX_WORDS]
    if len(found) > 1 and found[-1] in _LAST:
        found.pop()
    return tuple(found)


def has_mask_word(name: str) -> bool:
    """Whether a name without suffix contains a word for mask."""
    return any(word in MASK_WORDS for word in words(name))


def without_channel(name: str) -> tuple[str, ...]:
    """`common_name` without nnU-Net's number of the channel, _0000."""
    found = common_name(name)
    return found[:-1] if len(found) > 1 and found[-1] == "0000" else found


def _without(ending: str, name: str) -> str:
    """A name in lower case, without an ending."""
    return name.lower().removesuffix(ending)


def _tokens(name: str) -> tuple[str, ...]:
    return tuple(word for word in words(name) if word not in _SUFFIX_WORDS)


def _without_last(names: list[str]) -> Key:
    """A key without the words that all names end with, such as lab in 1_lab; of numbers only those after such a word."""
    every = [_tokens(stem(name)) for name in names]
    shortest = min(map(len, every), default=0) if len(every) > 1 else 0
    last = 0
    while last < shortest and len({one[-1 - last] for one in every}) == 1:
        last += 1
    while last and every[0][-last].isdigit():
        last -= 1
    return lambda name: _tokens(name)[: len(_tokens(name)) - last]


def _kind(name: str) -> int:
    """Rank of a kind of mask among others of an image: train ids before class ids before the rest before colors."""
    found = {*words(name)}
    ranked = ({"labeltrainids", "semantic"}, {"labelids"}, None, {"color", "colors", "labelcolor", "instanceids", "instance"})
    other = next((rank for rank, kind in enumerate(ranked) if kind and kind & found), None)
    return 2 if other is None else other


def _first_kinds(masks: list[str]) -> list[str]:
    """Of masks of several kinds, those of the first kind."""
    ranks = {name: _kind(stem(name)) for name in masks}
    first = min(ranks.values(), default=0)
    return [name for name in masks if ranks[name] == first]


_WAYS: tuple[tuple[str, Key, Key], ...] = (
    ("the same names", str, str),
    ("names that differ in case", str.lower, str.lower),
    *((f"masks named IMAGE{ending}", str.lower, partial(_without, ending.lower())) for ending in ENDINGS),
    ("the same names, apart from words like 'image' and 'mask'", common_name, common_name),
    ("the same names, apart from words like 'mask' and the channel _0000", without_channel, common_name),
)


def pair_names(images: Iterable[str], masks: Iterable[str], pattern: str | None = None) -> Pairs:
    """Pair names of image files with names of mask files.

    Args:
        images: file names with suffix, each once.
        masks: file names with suffix.
        pattern: of a mask's file name, with {stem} for the image's; or patterns of both, `a_{stem}.jpg=b_{stem}.png`. None: the
            rule that pairs most names.

    Raises:
        UserError: a pattern without {stem}.
    """
    images, masks = list(images), list(masks)
    if pattern:
        return Pairs(_by_pattern(images, masks, pattern), f"--pair {pattern}")
    best = Pairs({}, "")
    for how, image_key, mask_key in _WAYS:
        found = _by_key(images, masks, image_key, mask_key)
        if len(found) > len(best.masks):
            best = Pairs(found, how)
        if len(found) == len(images):
            break
    if not best.masks and (found := _by_key(images, _first_kinds(masks), common_name, common_name)):
        best = Pairs(found, "of several kinds of masks, the first")
    if not best.masks:
        first = _first_kinds(masks)
        found = _by_key(images, first, _without_last(images), _without_last(first))
        if len(found) == min(len(images), len(first)):
            best = Pairs(found, "the same names, apart from the last words, which all images or all masks have")
    if not best.masks and (found := _by_key(images, masks, common_name, partial(_apart_from, _only_in(masks, images)))):
        best = Pairs(found, "the same names, apart from words that all masks have")
    if not best.masks:
        found = _by_key(images, masks, _with_plain_numbers, _with_plain_numbers)
        if len(found) == len(images) == len(masks):
            best = Pairs(found, "the same numbers, apart from leading zeros")
    return best


def _only_in(names: list[str], others: list[str]) -> Counter[str]:
    """The words in every one of several names, as often as each has them, without those in every one of the others."""
    every, other = ([Counter(common_name(stem(name))) for name in each] for each in (names, others))
    return reduce(and_, every) - reduce(and_, other) if len(names) > 1 and others else Counter()


def _apart_from(shared: Counter[str], name: str) -> tuple[str, ...]:
    """The words of a name without these, the last ones first."""
    rest, kept = shared.copy(), list[str]()
    for word in reversed(common_name(name)):
        if rest[word] > 0:
            rest[word] -= 1
        else:
            kept.append(word)
    return tuple(reversed(kept))


def _with_plain_numbers(name: str) -> tuple[str, ...]:
    return tuple(word.lstrip("0") or "0" if word.isdecimal() else word for word in common_name(name))


def _by_key(images: list[str], masks: list[str], image_key: Key, mask_key: Key) -> dict[str, str]:
    first, second = (_unique(names, key) for names, key in ((images, image_key), (masks, mask_key)))
    return {first[key]: second[key] for key in first if key in second}


def _unique(names: list[str], key: Key) -> dict[object, str]:
    """The name of each key; keys of several names are left out."""
    found: dict[object, str] = {}
    several = set()
    for name in names:
        made = key(stem(name))
        if made in found:
            several.add(made)
        found[made] = name
    return {made: name for made, name in found.items() if made not in several and made != ()}


def pattern_stems(images: Iterable[str], pattern: str) -> dict[str, str]:
    """The {stem} of each image name that matches a pattern; see `pair_names`.

    Raises:
        UserError: a pattern without {stem}.
    """
    first, second = _sides(pattern)
    if first.count("{stem}") != 1 or second.count("{stem}") != 1:
        raise UserError(f"--pair {pattern}: must contain {{stem}} once, for the image's name, such as '{{stem}}_mask.png'")
    before, after = (re.escape(side) for side in first.split("{stem}"))
    expression = re.compile(f"{before}(.+){after}", re.IGNORECASE)
    found = {name: expression.fullmatch(name if "." in first else stem(name)) for name in images}
    return {name: part[1] for name, part in found.items() if part}


def _sides(pattern: str) -> tuple[str, str]:
    first, equals, second = pattern.partition("=")
    return (first, second) if equals else ("{stem}", pattern)


def _by_pattern(images: list[str], masks: list[str], pattern: str) -> dict[str, str]:
    second = _sides(pattern)[1]
    wanted = {name.lower(): name for name in masks} | {stem(name).lower(): name for name in masks}
    found = {}
    for name, part in pattern_stems(images, pattern).items():
        mask = wanted.get(second.replace("{stem}", part).lower())
        if mask:
            found[name] = mask
    return found
