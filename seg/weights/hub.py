"""Models on the Hugging Face Hub: `hf:OWNER/NAME` is read, and a folder written as its users expect one."""

import json
from dataclasses import replace
from pathlib import Path

from ..config import Config, as_dict
from ..errors import UserError, reason
from ..files import write_json, write_text
from .file import Metadata, write
from .loading import open_model

CARD = """# {title}

DeepLab V3+ for semantic segmentation, trained with `seg`: {network}, {parameters:,} parameters, {count} classes.

## Use

```python
import seg

model = seg.load("hf:{name}")  # or the path of model.safetensors
mask = model.predict("photo.jpg")  # uint8 [H, W]: the class of each pixel
model.draw("photo.jpg", mask).save("overlay.png")
```

The weights lie in `model.safetensors`, with classes, colors and settings in its metadata; `config.json` repeats them.

## Result

{result}

## Training

{training}

## Classes

{classes}
"""


def share(weights, out, name: str = "OWNER/NAME") -> Path:
    """Write model.safetensors, config.json and the model card README.md of a weights file into the folder `out`.

    `name` is where the card says that they are on the Hub.

    The card's numbers are those in the weights. Paths of this machine are left out: of data and weights the names stay.
    """
    model, about = open_model(weights)
    about.config = _portable(about.config)
    names, folder = about.labels.names, Path(out)
    write(folder / "model.safetensors", model, about.config, about.labels, about.score)
    settings = {
        "architectures": ["DeepLabV3Plus" if about.config.model.smp is None else about.config.model.smp],
        "num_labels": len(names),
        "id2label": dict(enumerate(names)),
        "label2id": {name: index for index, name in enumerate(names)},
        "score": about.score,
        "seg": as_dict(about.config),
    }
    write_json(folder / "config.json", settings)
    write_text(folder / "README.md", card(about, sum(p.numel() for p in model.parameters()), name))
    return folder


def push(folder, name: str) -> str:
    """Upload what `share` wrote to OWNER/NAME, made where it is missing: its address. The token is that of `hf auth login` or
    HF_TOKEN. Raises UserError where the Hub refuses, or is not there."""
    from huggingface_hub import HfApi

    try:
        hub = HfApi()
        address = hub.create_repo(name, exist_ok=True)
        files = ["model.safetensors", "config.json", "README.md"]
        hub.upload_folder(repo_id=name, folder_path=folder, allow_patterns=files, commit_message="Add the model")
    except Exception as error:  # the library's own, its HTTP client's and the system's share no base
        raise UserError(
            f"{name}: cannot be pushed ({reason(error)}); log in with hf auth login, and see the network. {folder} is whole"
        ) from error
    return str(address)


def download(source: str) -> Path:
    """model.safetensors of `hf:OWNER/NAME` or `hf:OWNER/NAME@REVISION`, fetched or from its cache.

    Raises UserError where it cannot be had.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.utils import logging

    logging.set_verbosity_error()  # it warns of each attempt; the last is told below
    name, _, revision = source.removeprefix("hf:").partition("@")
    try:
        return Path(hf_hub_download(name, "model.safetensors", revision=revision or None))
    except Exception as error:  # as in push
        raise UserError(f"{source}: cannot be had ({reason(error)}); it is hf:OWNER/NAME or hf:OWNER/NAME@REVISION") from error


def _portable(config: Config) -> Config:
    """The configuration with the names of files and folders for their paths."""

    def last(source: str | None) -> str | None:
        return source if source is None or source.startswith(("timm:", "hf:")) else Path(source).name

    return replace(
        config,
        runs="runs",
        model=replace(config.model, weights=last(config.model.weights)),
        data=replace(config.data, root=last(config.data.root), labels=last(config.data.labels), masks=last(config.data.masks)),
    )


def card(about: Metadata, parameters: int, name: str) -> str:
    """The model card: YAML that the Hub reads, then Markdown. What is not known is left out, or said to be so."""
    from huggingface_hub import EvalResult, ModelCardData

    config, score, labels = about.config, about.score, about.labels
    title, data = config.name or "model", config.data
    results = None
    if "miou" in score:
        results = [
            EvalResult(
                task_type="image-segmentation",
                dataset_type=data.root,
                dataset_name=data.root,
                dataset_split=score.get("split", data.val),
                metric_type="mean_iou",
                metric_name="mIoU",
                metric_value=score["miou"],
            )
        ]
    head = ModelCardData(
        model_name=title,
        library_name="seg",
        pipeline_tag="image-segmentation",
        tags=["semantic-segmentation", "deeplabv3plus", config.model.backbone, "safetensors"],
        metrics=["mean_iou"],
        eval_results=results,
    )
    network = config.model.smp or f"backbone {config.model.backbone}, output stride {config.model.output_stride}"
    body = CARD.format(
        title=title,
        name=name,
        network=network,
        parameters=parameters,
        count=len(labels),
        result=_result(about),
        training=_training(config, score),
        classes=", ".join(labels.names),
    )
    return f"---\n{head.to_yaml()}\n---\n\n{body}"


def _result(about: Metadata) -> str:
    score, policy = about.score, about.config.evaluate
    if "miou" not in score:
        return "Not measured."
    way = f"scales {', '.join(map(str, policy.scales))}{', mirrored too' if policy.flip else ''}"
    text = (
        f"mIoU **{100 * score['miou']:.2f} %** on the split `{score.get('split', about.config.data.val)}` of "
        f"{about.config.data.root} ({way}), the best of the validations of its training, each image at its own size."
    )
    if not isinstance(iou := score.get("iou"), dict):
        return text
    rows = [f"| {name} | {'-' if value is None else f'{100 * value:.2f}'} |" for name, value in iou.items()]
    return "\n".join([text, "", "| class | IoU % |", "|---|---|", *rows])


def _training(config: Config, score: dict) -> str:
    if "iteration" not in score:
        return "Not known here: the weights come from elsewhere."
    train, data = config.train, config.data
    rows = {
        "data": f"{data.root}, split {data.train}",
        "first weights": config.model.weights or "none",
        "iterations": f"{score['iteration']:,} of {train.iterations:,}",
        "batch": train.batch_size,
        "crop": data.crop_size,
        "learning rate": train.learning_rate,
        "loss": json.dumps(train.loss),
    }
    return "\n".join(["| setting | value |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items())])
