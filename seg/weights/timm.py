"""Weights of timm's Xceptions under our names: the original (`legacy_xception`) and the aligned 41, 65 and 71."""

import re
from collections.abc import Collection

from torch import Tensor

from ..errors import UserError, reason
from ..extras import quiet_hub
from ..models.xception import FAMILY

# In timm's original, a module's `rep` lists ReLU, separable convolution, batch norm, ...; the first module has no first ReLU.
LEAVES = {"conv1": "depthwise", "pointwise": "pointwise"}
MODULES = {**{f"block{i}": f"entry{i}" for i in (1, 2, 3)}, **{f"block{i}": f"middle{i - 3}" for i in range(4, 12)}}
MODULES["block12"] = "exit1"
EXIT = {"3": "0", "4": "1"}  # conv3, bn3 and conv4, bn4 are the last module's two separable convolutions
ALIGNED = {"conv_dw": "depthwise", "bn_dw": "depthwise_norm", "conv_pw": "pointwise", "bn_pw": "norm"}
CLASSIFIER = re.compile(r"(?:head\.)?fc\.(weight|bias)")
NETWORKS = ("legacy_xception", "xception41", "xception65", "xception71")


def backbone_of(theirs: Collection[str]) -> str | None:
    """Recognize a network by its tensor names.

    Args:
        theirs: timm's names.

    Returns:
        Our name of the backbone; None for any other network, such as timm's pre-activated variants (`xception65p`).
    """
    if "block1.rep.0.conv1.weight" in theirs:
        return "xception"
    blocks = {name.split(".")[1] for name in theirs if re.match(r"blocks\.\d+\.stack\.conv1\.conv_dw\.", name)}
    lengths = {len(FAMILY[name][0]): name for name in NETWORKS[1:]}
    return lengths.get(len(blocks)) if "blocks.0.stack.conv1.bn_dw.weight" in theirs else None


def to_ours(theirs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename the tensors of a network that `backbone_of` recognizes. A tensor that our networks do not have keeps its name."""
    backbone = backbone_of(theirs)
    assert backbone is not None
    modules = [row.name for row in FAMILY[backbone][0]]
    tensors = {}
    for name, value in theirs.items():
        if match := CLASSIFIER.fullmatch(name):
            ours: str | None = f"image_classifier.{match[1]}"
        else:
            ours = legacy_name(name) if backbone == "xception" else aligned_name(name, modules)
        tensors[ours or name] = value
    return tensors


def legacy_name(name: str) -> str | None:
    """Translate the name of a `legacy_xception` tensor; None if our network has no such tensor."""
    if match := re.fullmatch(r"(conv|bn)([12])\.(\w+)", name):
        kind, index, leaf = match.groups()
        return f"backbone.conv{index}.{'conv' if kind == 'conv' else 'norm'}.{leaf}"
    if match := re.fullmatch(r"(?:conv([34])\.(conv1|pointwise)|bn([34]))\.(\w+)", name):
        conv, leaf, norm, tensor = match.groups()
        return f"backbone.flow.exit2.convs.{EXIT[conv or norm]}.{LEAVES[leaf] if leaf else 'norm'}.{tensor}"
    if match := re.fullmatch(r"(block\d+)\.(skip|skipbn)\.(\w+)", name):
        block, kind, tensor = match.groups()
        return f"backbone.flow.{MODULES[block]}.shortcut.{'conv' if kind == 'skip' else 'norm'}.{tensor}"
    if match := re.fullmatch(r"(block\d+)\.rep\.(\d+)(?:\.(conv1|pointwise))?\.(\w+)", name):
        block, position, leaf, tensor = match.groups()
        index = (int(position) + (block == "block1") - 1) // 3
        return f"backbone.flow.{MODULES[block]}.convs.{index}.{LEAVES[leaf] if leaf else 'norm'}.{tensor}"
    return None


def aligned_name(name: str, modules: list[str]) -> str | None:
    """Translate the name of a tensor of timm's aligned Xceptions, whose blocks are our `modules` in order; else None."""
    if match := re.fullmatch(r"stem\.([01])\.(conv|bn)\.(\w+)", name):
        index, kind, leaf = match.groups()
        return f"backbone.conv{int(index) + 1}.{'conv' if kind == 'conv' else 'norm'}.{leaf}"
    if match := re.fullmatch(r"blocks\.(\d+)\.shortcut\.(conv|bn)\.(\w+)", name):
        block, kind, leaf = match.groups()
        return f"backbone.flow.{modules[int(block)]}.shortcut.{'conv' if kind == 'conv' else 'norm'}.{leaf}"
    if match := re.fullmatch(r"blocks\.(\d+)\.stack\.conv([123])\.(\w+)\.(\w+)", name):
        block, index, part, leaf = match.groups()
        return f"backbone.flow.{modules[int(block)]}.convs.{int(index) - 1}.{ALIGNED[part]}.{leaf}"
    return None


def download(name: str) -> dict[str, Tensor]:
    """Download published weights of timm, or take them from its cache.

    Args:
        name: such as xception65.tf_in1k.

    Returns:
        The tensors under timm's names.

    Raises:
        UserError: the network is not supported, or the download failed.
    """
    if name.split(".")[0] not in NETWORKS:
        raise UserError(f"timm:{name}: not a supported network; give one of {', '.join(NETWORKS)}, with a tag such as .tf_in1k")
    import timm  # costs seconds

    try:
        with quiet_hub():
            tensors: dict[str, Tensor] = timm.create_model(name, pretrained=True).state_dict()
        return tensors
    except (RuntimeError, OSError, ValueError) as error:
        raise UserError(
            f"timm:{name}: cannot be downloaded ({reason(error)}); download its model.safetensors yourself and give its path"
        ) from error
