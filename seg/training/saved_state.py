"""Captures the state of a training for a checkpoint, and restores it when resuming."""

from pathlib import Path
from typing import Any

from torch import nn

from ..config import Config, as_dict
from ..errors import UserError, reason
from . import checkpoint
from .ema import ExponentialMovingAverage
from .run_folder import State, changed_settings, differences, resume_command, versions
from .step import Step

SHAPING, INITIAL = ("model.", "data.labels"), "model.weights"
"""Settings that decide which tensors a network has, and those of them that do not."""


def capture(config: Config, model: nn.Module, step: Step, ema: ExponentialMovingAverage | None, state: State) -> dict[str, Any]:
    """Return the state that the next iteration depends on, and the settings. `restore` reads it."""
    return {
        "model": model.state_dict(),
        "optimizer": step.optimizer.state_dict(),
        "scaler": step.scaler.state_dict(),
        "ema": None if ema is None else ema.state_dict(),
        "state": vars(state),
        "config": as_dict(config),
        "versions": versions(),
    }


def restore(
    saved: dict[str, Any], place: Path, config: Config, model: nn.Module, step: Step, ema: ExponentialMovingAverage | None
) -> tuple[State, list[str]]:
    """Load the state of `capture` into a training.

    Args:
        saved: the checkpoint.
        place: name of its file, for error messages.
        config, model, step, ema: of the resumed training.

    Returns:
        The counters, and a line for each setting that has changed since.

    Raises:
        UserError: it is not a checkpoint of this configuration.
    """
    try:
        changed = changed_settings(saved["config"], as_dict(config))
        if saved["versions"] != versions():
            changed.append(f"saved by {saved['versions']}, resumed by {versions()}: equal up to rounding")
        checkpoint.check_like(saved["state"], vars(State()), "state")
        model.load_state_dict(saved["model"])
        checkpoint.restore_optimizer(step.optimizer, saved["optimizer"])
        checkpoint.check_like(saved["scaler"], step.scaler.state_dict(), "scaler")
        step.scaler.load_state_dict(saved["scaler"])
        if ema is not None:
            checkpoint.check_like(saved["ema"], {"updates": 0}, "ema")
            ema.load_state_dict(saved["ema"])
        return State(**saved["state"]), changed
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        other = _other_network(saved, config)
        again = f"resume it with its own settings: {resume_command(place.parent)}; or " if other else ""
        problem = f"not a checkpoint of this configuration ({other or reason(error)}); {again}start a new run with name=NAME"
        raise UserError(f"{place}: {problem}") from error


def _other_network(saved: dict[str, Any], config: Config) -> str:
    """The changed settings that decide which tensors a network has, in words; empty if there are none."""
    before = saved.get("config")
    changed = differences(before, as_dict(config)) if isinstance(before, dict) else []
    shaping = [each for each in changed if each[0].startswith(SHAPING) and not each[0].startswith(INITIAL)]
    return ", and ".join(f"{name} was {old}, is {new}" for name, old, new in shaping)
