"""seg info: list the layers of a network."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any, cast

from .models import origin
from .options import WEIGHTS, Subparsers, add_device, add_json, add_verb, size

if TYPE_CHECKING:
    import torch
    from torch import nn

    from ..config import Config


def add_parser(subparsers: Subparsers) -> None:
    """Add the parser of the verb."""
    parser = add_verb(
        subparsers,
        "info",
        run,
        "List the layers of a network with their parameters, multiply-adds and output sizes.",
        example="seg info voc_xception65 model.output_stride=8",
    )
    parser.add_argument("source", metavar="CONFIG|WEIGHTS", help=f"name or path of a configuration, or {WEIGHTS}")
    parser.add_argument("overrides", metavar="KEY=VALUE", nargs="*", help="settings that override the configuration")
    parser.add_argument("--size", type=size, metavar="HxW", help="input size (default: the crop size of training)")
    parser.add_argument(
        "--profile",
        action="store_true",
        help="also measure, for each group of layers, the time of a forward pass and the activations that training stores; "
        "and estimate the memory of training with this configuration",
    )
    add_device(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Run the verb and return the exit code."""
    from ..distributed import device
    from ..files import write_json
    from .tables import model_table, profile_table

    where = device(args.device or "auto") if args.profile else None
    model, config = network(args)
    from ..models.summary import summary

    height, width = args.size or config.data.crop
    rows = summary(model, height, width)
    print(model_table(rows, height, width))
    numbers: dict[str, Any] = {"size": [height, width], "rows": [vars(row) for row in rows]}
    if where is not None:
        from ..models.profile import profile

        groups = profile(model.to(where), height, width)
        print(profile_table(groups, height, width))
        numbers["profile"] = [vars(group) | {"flops": group.flops} for group in groups]
        numbers["training_bytes"] = training_bytes(model, config, height, width, where)
    if args.json:
        write_json(args.json, numbers)
    return 0


def training_bytes(model: nn.Module, config: Config, height: int, width: int, where: torch.device) -> dict[str, int]:
    """Estimate and print the memory of a training step, in bytes, without and with recomputation."""
    from ..training.batch_size import choose_batch, least_memory
    from ..training.memory import choose_precision, images_at_a_time, training_memory
    from ..training.step import prepare_mode

    prepare_mode(model, config.train)
    config.train = choose_batch(model, config.train, height, width, where, least_memory(where))
    precision = choose_precision(config.train, where)
    stored, recomputed = (
        training_memory(model, config.train, height, width, precision, recompute, where) for recompute in (False, True)
    )
    print(
        f"training step, {images_at_a_time(config.train)} crops of {height}x{width} per forward pass in {precision}: about "
        f"{stored / 2**30:.1f} GiB of memory, {recomputed / 2**30:.1f} GiB with train.recompute=true"
    )
    return {"stored": stored, "recomputed": recomputed}


def network(args: argparse.Namespace) -> tuple[nn.Module, Config]:
    """Return the network of a configuration or of a weights file, and its settings; without `run`, weights take no memory."""
    from ..config import is_configuration, load

    if is_configuration(args.source):
        config = load(args.source, args.overrides)
        from ..labels import load as load_labels
        from ..models.factory import build_meta_model, build_model

        build = build_model if args.profile else build_meta_model
        return build(config.model, len(load_labels(config.data.labels))), config
    from ..weights.loading import open_model

    model, metadata = open_model(args.source, args.overrides)
    score = f"mIoU {100 * metadata.score['miou']:.2f} %" if "miou" in metadata.score else "no score"
    score += f" on {metadata.score['split']}" if "split" in metadata.score else ""
    print(f"{args.source}: {score}; classes: {', '.join(metadata.labels.names)}")
    if metadata.origin:
        print(origin(metadata.origin))
    return cast("nn.Module", model), metadata.config
