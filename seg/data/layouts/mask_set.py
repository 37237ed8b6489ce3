"""All masks of a data set: read once, interpreted together, and converted to class indices."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from shlex import quote

import numpy as np
from PIL import Image

from ...errors import UserError
from ...labels import VOID, LabelSet
from ...threads import prefetch
from ..images import Header, decode, read_header
from ..inventory import MASK_SUFFIXES
from ..masks import color_table
from ..voc import different_size
from .base import Embedded, Hints, Layout, Sample, Samples
from .classes import Meaning, find_meaning, known_meaning
from .levels import find_levels
from .raw_masks import COLOR, Decoding, Seen, code_of, color_of, common_decoding, decoded_codes, look, read_codes, show
from .suspicion import refuse_instances, refuse_smooth_edges


class MaskSet:
    """The masks of a data set.

    Attributes:
        meaning: the classes, and the meaning of the values.
        how: how the files become codes.
    """

    def __init__(
        self, layout: Layout, hints: Hints, samples: Samples, notes: list[str], progress: Callable[[int, int], None] | None
    ):
        """Read every mask file. Raises UserError if the masks cannot be interpreted, or do not fit their images."""
        self.hints, self.samples, self.progress = hints, samples, progress
        self.folder = quote(str(layout.folder))
        self.seen: dict[str, Seen] = {}
        self.sizes: dict[str, tuple[int, int] | None] = {}
        """Width and height to which a mask file is resized; None: it is not."""
        files = {item: sample.mask for item, sample in samples.items() if isinstance(sample.mask, Path)}
        found = prefetch(partial(look, threshold=hints.threshold), files.values(), os.cpu_count() or 1)
        for number, (item, one) in enumerate(zip(files, found, strict=True), 1):
            self.seen[item] = one
            if progress:
                progress(number, len(samples))
        labels = layout.labels()
        if labels is None or hints.labels:
            labels = hints.labels
        if not files:
            if hints.labels or labels is None:
                raise UserError(f"{layout.folder}: --values is for mask files; the layout {layout.name} names its classes")
            self.how, self.meaning = Decoding(), Meaning(labels, {})
            return
        self._check_sizes(files)
        every = list(self.seen.values())
        entries, place = layout.entries()
        self.how = self._decoding(every, [color for _, color in entries], notes)
        named = bool(entries)
        if hints.threshold is not None and len(entries) != 2:
            entries, named = [("background", None), ("foreground", None)], False
        if labels is not None:
            self.meaning = known_meaning(every, labels, self.how)
            return
        if not self.how.palette and hints.threshold is None:
            refuse_smooth_edges(every, self.how)
        self.meaning = find_meaning(every, entries, place, self.how, notes)
        if not entries:
            refuse_instances(every, self.how)
        elif named and any(name in self.meaning.labels.names for name, _ in entries):
            notes.append(f"names of classes from {place}")

    def _decoding(self, every: list[Seen], colors: list[tuple[int, int, int] | None], notes: list[str]) -> Decoding:
        how = Decoding(threshold=self.hints.threshold)
        if how.threshold is not None:
            notes.append(f"two classes: gray levels below {how.threshold}, and {how.threshold} or above")
            return how
        lossy = [(one.path, one.lossy) for one in every if one.lossy]
        if len(lossy) < len(every) and lossy:
            raise UserError(
                f"{lossy[0][0]}: a lossy format such as JPEG, unlike other masks of the set; export it again as PNG"
            )
        if lossy:
            levels, gray = find_levels(lossy, colors)
            codes = tuple(level[0] if gray else code_of((level[0], level[1], level[2])) for level in levels)
            shown = ", ".join(map(show, codes))
            notes.append(f"the masks have a lossy format; each pixel gets the nearest of the levels {shown}: edges may shift")
            return Decoding(levels=codes)
        transparent = sum(one.transparent for one in every)
        if transparent:
            notes.append(f"transparent pixels of {transparent} masks are background")
        return common_decoding(every, how, colors)

    def _check_sizes(self, files: Mapping[str, Path]) -> None:
        headers = prefetch(_header, [self.samples[item] for item in files], os.cpu_count() or 1)
        wrong = []
        for item, header in zip(files, headers, strict=True):
            image = image_size(header, self.hints)
            same = self.seen[item].size == image
            self.sizes[item] = None if same else image
            if not same and not self.hints.resize_masks:
                wrong.append((item, image))
        if wrong:
            item, image = wrong[0]
            raise UserError(self._misfit(self.samples[item], self.seen[item].size, image, len(wrong), len(files)))

    def reads_alike(self, item: str, labels: LabelSet, suffixes: tuple[str, ...] = MASK_SUFFIXES) -> bool:
        """Whether training with this label set reads the mask file with the same meaning."""
        one, how = self.seen.get(item), self.how
        if one is None or not one.path.name.lower().endswith(suffixes) or self.sizes[item]:
            return False
        if one.lossy or one.transparent or how.palette or how.threshold is not None:
            return False
        integers = {value: index for value, index in labels.values or () if isinstance(value, int)}
        colors = color_table(labels)
        for code, understood in zip(one.codes, decoded_codes(one, how), strict=True):
            if code >= COLOR:
                read = colors.get(color_of(code))
            else:
                read = integers.get(code) if integers else code if code < len(labels) or code == VOID else None
            if read != self.meaning.table[understood]:
                return False
        return True

    def index_mask(self, item: str) -> np.ndarray:
        """The mask of a sample: uint8 [H, W], class index or 255."""
        sample = self.samples[item]
        if isinstance(sample.mask, Path):
            size = self.sizes[item]
            codes = read_codes(sample.mask, self.how)
            known = np.array(sorted(self.meaning.table), np.int32)
            values = np.array([self.meaning.table[code] for code in known.tolist()], np.uint8)
            mask = values[np.searchsorted(known, codes)]
        else:
            mask = sample.mask()
            drawn, image = (mask.shape[1], mask.shape[0]), image_size(_header(sample), self.hints)
            size = None if drawn == image else image
            if size and not self.hints.resize_masks:
                raise UserError(self._misfit(sample, drawn, image, 1, len(self.samples)))
        if size:
            mask = np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.NEAREST))
        return mask

    def _misfit(self, sample: Sample, size: tuple[int, int], image: tuple[int, int], wrong: int, total: int) -> str:
        path = sample.image if isinstance(sample.image, Path) else sample.source
        count = f"; {wrong} of {total} masks are of another size than their image" if total > 1 else ""
        return different_size(size, image, sample.source, path, folder=self.folder, count=count)


def image_size(header: Header, hints: Hints) -> tuple[int, int]:
    """Width and height of an image as it will be read: upright, or as stored if its EXIF orientation is ignored."""
    size = header.width, header.height
    return size[::-1] if hints.ignore_exif and header.orientation >= 5 else size


def _header(sample: Sample) -> Header:
    if isinstance(sample.image, Embedded):
        image = decode(io.BytesIO(sample.image.content), name=str(sample.source))
        return Header(image.width, image.height, 1, 1)
    return read_header(sample.image)
