"""Names of timm's networks in ours."""

import re

# In timm, a module's `rep` lists ReLU, separable convolution, batch norm, ...; the first module has no first ReLU.
LEAVES = {"conv1": "depthwise", "pointwise": "pointwise"}
MODULES = {**{f"block{i}": f"entry{i}" for i in (1, 2, 3)}, **{f"block{i}": f"middle{i - 3}" for i in range(4, 12)}}
MODULES["block12"] = "exit1"
EXIT = {"3": "0", "4": "1"}  # conv3, bn3 and conv4, bn4 are the last module's two separable convolutions


def is_legacy_xception(tensors) -> bool:
    return "block1.rep.0.conv1.weight" in tensors


def legacy_xception_name(name: str) -> str | None:
    """Our name of a `legacy_xception` tensor: the original Xception as a backbone; None for its 1000-way classifier."""
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


def from_legacy_xception(tensors: dict) -> dict:
    return {ours: value for name, value in tensors.items() if (ours := legacy_xception_name(name))}
