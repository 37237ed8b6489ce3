"""Calibration in seg evaluate: its flags, and the temperature that is stored."""

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
        help="also measure how sure the model is and how often it is right: expected calibration error, fitted temperature",
    )
    parser.add_argument(
        "--store-temperature",
        action="store_true",
        help="as --calibration, and store the temperature fitted on this split with the weights; masks stay the same",
    )


def store_temperature(weights: str, evaluation: Evaluation) -> None:
    """Store the fitted temperature of an evaluation with the weights. Raises UserError if there is none."""
    from ..weights import file
    from ..weights.resolve import resolve_weights

    calibration = evaluation.calibration
    if calibration is None or calibration.fitted is None:
        raise UserError(f"{weights}: no temperature stored: every pixel of the split is void; choose another --split")
    path = resolve_weights(weights)
    file.store_temperature(path, calibration.fitted)
    print(f"{path}: temperature {calibration.fitted:g} stored; probabilities use it")
