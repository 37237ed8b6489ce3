"""Write our networks as checkpoints of the released TensorFlow code."""

from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from seg.weights.tensorflow import variable_name
from tests.helpers.bundles import write_bundle
from tests.oracle.harness import variables


def checkpoint(folder: Path, model: nn.Module, *, extra: Any = ()) -> str:
    """Write a model with the names and layout of the released code, and return its address `tf:PATH`."""
    state, tensors = model.state_dict(), {}
    for name in variables(
        model.backbone.name.replace("xception", "xception_"), "aspp" if getattr(model, "dpc", None) is None else "dpc"
    ):
        name = dense(name, model)
        if (ours := variable_name(name)) in state:
            value = state[ours].numpy()
            if value.ndim == 4:
                value = value.transpose((2, 3, 0, 1) if name.endswith("depthwise_weights") else (2, 3, 1, 0))
            elif value.ndim == 2:
                value = value.T[None, None]
            tensors[name] = value
    write_bundle(folder / "model.ckpt-7", tensors | dict(extra) | {"global_step": np.array(7, np.int64)})
    return f"tf:{folder / 'model.ckpt-7'}"


def dense(name: str, model: nn.Module) -> str:
    """Return the name of a head's variable in a model whose head is not separable."""
    for part, module in (
        ("aspp", model.aspp.atrous if getattr(model, "aspp", None) else ()),
        ("decoder/decoder_conv", getattr(getattr(model, "decoder", None), "convs", ())),
    ):
        if name.startswith(part) and "_pointwise" in name and len(module) and not hasattr(module[0], "pointwise"):
            return name.replace("_pointwise", "")
    return name
