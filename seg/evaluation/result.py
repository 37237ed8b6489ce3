"""The result of an evaluation."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from .boundary import Boundary
from .calibration import Calibration
from .metrics import Scores


@dataclass
class Evaluation:
    """The scores of a split or of saved masks, and the settings that they were made with."""

    scores: Scores
    boundary: Boundary | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    """Of JSON's types."""
    calibration: Calibration | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the numbers as `seg evaluate --json` writes them."""
        numbers = {**self.scores.as_dict(), "settings": self.settings}
        parts = {"boundary": self.boundary, "calibration": self.calibration}
        return numbers | {name: part.as_dict() for name, part in parts.items() if part}
