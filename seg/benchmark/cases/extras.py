"""Optional packages that some rows need."""

import importlib.util

from ...progress import print_stderr

NEEDED = {
    "onnx": ("onnxscript", "onnxruntime"),
    "openvino": ("openvino",),
    "openvino int8": ("openvino", "nncf", "onnxscript"),
    "torchmetrics": ("torchmetrics",),
}
"""Modules that a row needs, by the row's name."""


def installed(row: str) -> bool:
    """Return whether the modules of NEEDED[row] are installed; if not, print which one is missing and how to install it."""
    from ...extras import EXTRAS

    for module in NEEDED.get(row, ()):
        if importlib.util.find_spec(module) is None:
            extra = EXTRAS.get(module, "benchmark")
            print_stderr(f"seg benchmark: {row} is skipped, {module} is not installed; pip install 'seg-deeplab[{extra}]'")
            return False
    return True
