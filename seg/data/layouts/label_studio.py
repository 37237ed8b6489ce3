"""Label Studio's brush export: a black and white PNG per label, task-5-annotation-9-by-1-tag-CAT-0.png."""

from __future__ import annotations

import json
import re
from functools import cached_property, partial
from pathlib import Path, PurePosixPath

from ...errors import UserError, reason
from ...labels import LabelSet
from .base import Layout, Sample, Splits, find_images, label_set, stem, with_background
from .binary import draw_binary

_NAME = r"task-(\d+)-annotation-(\d+)-by-(.*?)-tag-(.+)-(\d+)\.png"


class LabelStudio(Layout):
    """Masks named after tasks; images by the export's JSON, by the task's number, or in the order of the tasks."""

    name = "label-studio"

    @cached_property
    def masks(self) -> dict[int, dict[int, list[tuple[str, Path]]]]:
        """(label, file) of every task and annotation."""
        found: dict[int, dict[int, list[tuple[str, Path]]]] = {}
        for name in self.tree.named(_NAME):
            parts = re.fullmatch(_NAME, PurePosixPath(name).name)
            assert parts
            task = found.setdefault(int(parts[1]), {})
            task.setdefault(int(parts[2]), []).append((parts[4], self.folder / name))
        return dict(sorted(found.items()))

    def matches(self) -> bool:
        return bool(self.masks)

    @cached_property
    def classes(self) -> list[str]:
        """Label names, background first."""
        every = {label for task in self.masks.values() for files in task.values() for label, _ in files}
        return with_background(sorted(every))

    def labels(self) -> LabelSet:
        return label_set(self.classes, str(self.folder))

    def samples(self) -> Splits:
        if not self.masks:
            raise UserError(f"{self.folder}: no masks of Label Studio, task-1-annotation-2-by-3-tag-NAME-0.png")
        images = self._images()
        found = {}
        several = 0
        for task, done in self.masks.items():
            if task not in images:
                continue
            several += len(done) > 1
            files = sorted(done[max(done)], key=lambda file: self.classes.index(file[0]))
            masks = {path: self.classes.index(label) for label, path in files}
            found[stem(images[task].name)] = Sample(images[task], partial(draw_binary, masks), files[0][1])
        if several:
            self.notes.append(f"{several} tasks have several annotations: the last one of each task is used")
        self.left_out(len(self.masks) - len(found), len(self.masks), "tasks have no image")
        self.notes.append("a mask for each label; all other pixels are background")
        return {None: found}

    def _images(self) -> dict[int, Path]:
        """The image of each task."""
        names = {name: paths for name, paths in find_images(self.tree, self.hints).items() if not re.fullmatch(_NAME, name)}
        by_json = self._from_export(names)
        if by_json:
            return by_json
        files = sorted((path for paths in names.values() for path in paths), key=lambda path: _natural(path.name))
        numbered = {int(path.stem): path for path in files if path.stem.isascii() and path.stem.isdigit()}
        if self.masks.keys() <= numbered.keys():
            self.notes.append("images are found by the number of their task")
            return {task: numbered[task] for task in self.masks}
        if len(files) == len(self.masks):
            self.notes.append("images are assigned to tasks in the order of their names; check some, or add the export's JSON")
            return dict(zip(self.masks, files, strict=True))
        raise UserError(
            f"{self.folder}: {len(self.masks)} tasks and {len(files)} images: which image belongs to which task is not "
            "known. Export JSON too, and put it there; or name the images after their tasks, 1.jpg, 2.jpg, ..."
        )

    def _from_export(self, names: dict[str, list[Path]]) -> dict[int, Path]:
        """Read the JSON of an export: a list of tasks with their id and image."""
        found: dict[int, Path] = {}
        for name in self.tree.files:
            if not name.lower().endswith(".json"):
                continue
            try:
                tasks = json.loads((self.folder / name).read_text(encoding="utf-8"))
            except (OSError, ValueError, RecursionError) as error:
                raise UserError(f"{self.folder / name}: not a JSON export of Label Studio ({reason(error)})") from error
            for task in tasks if isinstance(tasks, list) else ():
                data = task.get("data") if isinstance(task, dict) else None
                for value in data.values() if isinstance(data, dict) else ():
                    base = re.split(r"[/\\=]", value)[-1] if isinstance(value, str) else ""
                    # Uploaded files get a prefix of 8 characters.
                    for candidate in (base, base.partition("-")[2]):
                        if candidate in names and isinstance(task.get("id"), int):
                            found.setdefault(task["id"], names[candidate][0])
        return found


def _natural(name: str) -> list[tuple[int, str]]:
    """A key that sorts 2.jpg before 10.jpg."""
    return [(int(part), "") if part.isdigit() else (0, part) for part in re.findall(r"[0-9]+|[^0-9]+", name)]
