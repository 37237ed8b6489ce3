"""The model card of a shared model: README.md on the Hugging Face Hub."""

import json

from ..config import Config
from .file import Metadata
from .zoo import PublishedScore

CARD = """# {title}

DeepLab V3+ for semantic segmentation, {by}: {network}, {parameters:,} parameters, {count} classes.

## Use

```python
import seg

model = seg.load("hf:{name}")  # or the path of model.safetensors
mask = model.predict("photo.jpg")  # uint8 [H, W]: the class of each pixel
model.draw("photo.jpg", mask).save("overlay.png")
```

`pip install seg-deeplab` installs `seg`. The weights are in `model.safetensors`, with class names, colors and settings in its
metadata; `config.json` has the same settings.

## Evaluation

{result}

## Training

{training}

## Classes

{classes}
"""


def model_card(metadata: Metadata, parameters: int, name: str) -> str:
    """Write the model card.

    Args:
        metadata: of the weights file. Missing parts are left out, or called unknown.
        parameters: number of parameters.
        name: OWNER/NAME on the Hub.

    Returns:
        The YAML header that the Hub reads, then Markdown.
    """
    from huggingface_hub import EvalResult, ModelCardData

    config, score, labels = metadata.config, metadata.score, metadata.labels
    title, data = config.name or "model", config.data
    results = None
    origin = metadata.origin
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
        license=origin["license"].lower() if origin else None,
        library_name="seg",
        pipeline_tag="image-segmentation",
        tags=["semantic-segmentation", "deeplabv3plus", config.model.backbone, "safetensors"],
        metrics=["mean_iou"],
        eval_results=results,
    )
    network = config.model.smp or f"backbone {config.model.backbone}, output stride {config.model.output_stride}"
    body = CARD.format(
        title=title,
        by=f"converted from [{origin['name']}]({origin['address']})" if origin else "trained with `seg`",
        name=name,
        network=network,
        parameters=parameters,
        count=len(labels),
        result=_evaluation(metadata),
        training=_training(metadata),
        classes=", ".join(labels.names),
    )
    return f"---\n{head.to_yaml()}\n---\n\n{body}"


def _evaluation(metadata: Metadata) -> str:
    score, config = metadata.score, metadata.config
    if metadata.origin:
        scores = [f"- mIoU {PublishedScore(**one)}" for one in metadata.origin["scores"]]
        return "\n".join(["As the authors published it:", "", *scores]) if scores else "Not published."
    if "miou" not in score:
        return "Not measured."
    scales = ", ".join(map(str, config.evaluate.scales))
    text = (
        f"mIoU **{100 * score['miou']:.2f} %** on the split `{score.get('split', config.data.val)}` of {config.data.root}: the "
        f"best validation of the training. Scales {scales}{', with horizontal flip' if config.evaluate.flip else ''}; each "
        "image is scored at its own size."
    )
    if not isinstance(iou := score.get("iou"), dict):
        return text
    rows = [f"| {name} | {'-' if value is None else f'{100 * value:.2f}'} |" for name, value in iou.items()]
    return "\n".join([text, "", "| class | IoU % |", "|---|---|", *rows])


def _training(metadata: Metadata) -> str:
    config: Config = metadata.config
    if origin := metadata.origin:
        return (
            f"By the authors of DeepLab, on {origin['trained_on']}. This file is their released checkpoint, "
            f"`{origin['address']}`, with other names and the axis order of PyTorch; license {origin['license']}."
        )
    if "iteration" not in metadata.score:
        return "Unknown: these weights were not trained by a run of `seg train`."
    train, data = config.train, config.data
    rows = {
        "data": data.trained_on,
        "initial weights": config.model.weights or "random",
        "iterations": f"{metadata.score['iteration']:,} of {train.iterations:,}",
        "batch size": train.batch_size,
        "crop size": "{}x{}".format(*data.crop),
        "learning rate": train.learning_rate,
        "loss": json.dumps({name: weight for name, weight in train.loss.items() if weight}),
    }
    return "\n".join(["| setting | value |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items())])
