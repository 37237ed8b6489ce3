"""Dependencies: import an optional one, or name the pip command that installs it; and silence one that warns too much."""

import contextlib
import importlib
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from .errors import UserError, reason

EXTRAS = {
    "onnx": "onnx",
    "onnxruntime": "onnx",
    "onnxscript": "onnx",
    "openvino": "openvino",
    "nncf": "openvino",
    "fastapi": "serve",
    "uvicorn": "serve",
    "pillow_heif": "heif",
    "torchmetrics": "benchmark",
    "wandb": "wandb",
    "mlflow": "mlflow",
    "comet_ml": "comet",
}
"""The extra of the distribution that installs each optional module."""


def pip_command(module: str) -> str:
    """Return the command that installs an optional module.

    Args:
        module: a key of `EXTRAS`.

    Returns:
        Such as `pip install 'seg-deeplab[onnx]'`.
    """
    return f"pip install 'seg-deeplab[{EXTRAS[module]}]'"


def import_extra(module: str) -> ModuleType:
    """Import an optional dependency.

    Args:
        module: a key of `EXTRAS`.

    Returns:
        The module.

    Raises:
        UserError: it cannot be imported; the message has the command that installs it.
    """
    # OpenVINO and NNCF send usage statistics if they find this package.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # None blocks an import
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UserError(f"{module} cannot be imported ({reason(error)}): {pip_command(module)}") from error


@contextlib.contextmanager
def quiet_hub() -> Iterator[None]:
    """Let Hugging Face's library log only errors in the block: it warns of each of ten attempts, and our error is enough."""
    from huggingface_hub.utils import logging

    library: Any = logging
    before = library.get_verbosity()
    library.set_verbosity_error()
    try:
        yield
    finally:
        library.set_verbosity(before)
