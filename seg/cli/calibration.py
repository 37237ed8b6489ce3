"""Calibration in seg evaluate: the flags, and how the fitted temperature is stored."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from ..errors import UserError

if TYPE_CHECKING:
    from ..evaluation.result import Evaluation


def add_calibration(parser: argparse.ArgumentParser) -> None:
    """Add --calibration and --store-temperature."""
    parser.add_argument(
        "--calibration",
        action="store_true",
        help="also compare the model's confidence with its accuracy: expected calibration error and fitted temperature",
    )
    parser.add_argument(
        "--store-temperature",
        action="store_true",
        help="as --calibration, and store the temperature fitted on this split in the weights file; the masks do not change",
    )


def store_temperature(weights: str, evaluation: Evaluation) -> None:
    """Store the fitted temperature of an evaluation in the weights file. Raises UserError if the evaluation has none."""
    from ..weights import file
    from ..weights.resolve import resolve_weights

    calibration = evaluation.calibration
    if calibration is None or calibration.fitted is None:
        raise UserError(
            f"{weights}: no temperature was stored, because every pixel of the split is void; choose another --split"
        )
    path = resolve_weights(weights)
    file.store_temperature(path, calibration.fitted)
    print(f"{path}: stored temperature {calibration.fitted:g}; it applies to all probabilities")
