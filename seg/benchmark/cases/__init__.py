"""What is compared with what: one module per section, whose `cases` builds the comparisons.

Each module imports torch inside its functions, in the process of the side that needs it.
"""

from collections.abc import Callable

from ..harness import Case
from . import evaluation, forward, loader, loss, start_up, train_step

SECTIONS: dict[str, Callable[..., list[Case]]] = {
    "forward": forward.cases,
    "train-step": train_step.cases,
    "loss": loss.cases,
    "loader": loader.cases,
    "evaluation": evaluation.cases,
    "start-up": start_up.cases,
}
READ_IMAGES = ("loader", "evaluation")
"""Sections that read images. Their `cases` takes the folder of the data set."""
