"""All settings, with their types and checks. YAML files set them; `key=value` arguments override them.

config = load("voc_mini", ["data.root=data/voc-mini", "train.iterations=100"])
"""

import difflib
import math
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from numbers import Integral
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from .distributed import check_device_name
from .errors import UserError, did_you_mean, reason
from .files import expand, read_lines, read_yaml
from .synonyms import choice_meant, find_epochs, inner_key, key_hint

LISTS = "ImageSets/Segmentation"
"""Folder of the lists of splits in a data set in VOC layout."""
LARGEST = 2**15
"""Upper limit of image sides in pixels, channels of a layer, and crops of a batch."""


def check(condition: bool, key: str, value: Any, wants: str) -> None:
    """Raise a UserError that says what the setting must be if the condition does not hold."""
    if not condition:
        raise UserError(f"{key}={value}: must be {wants}")


def choices_of(hint: Any) -> tuple[Any, ...]:
    """The values that a Literal allows, None included where it is optional; empty for any other type."""
    parts = get_args(hint)
    if get_origin(hint) is Literal:
        return parts
    literals = [value for part in parts if get_origin(part) is Literal for value in get_args(part)]
    return (*((None,) if type(None) in parts else ()), *literals) if literals else ()


def check_choice(hint: Any, key: str, value: Any) -> None:
    """Raise a UserError if the type of a setting has a fixed set of values and `value` is not one of them."""
    choices = choices_of(hint)
    if choices and value not in choices:
        known = ", ".join("null" if choice is None else str(choice) for choice in choices)
        meant = choice_meant(value, choices)
        raise UserError(f"{key}={value}: must be one of {known}{f'; did you mean {meant!r}?' if meant else ''}")


def check_choices(section: Any, prefix: str) -> None:
    """Check each setting of a section that has a fixed set of values."""
    for key, hint in get_type_hints(type(section)).items():
        check_choice(hint, prefix + key, getattr(section, key))


def expanded(path: str) -> str:
    """The path with `~` and environment variables expanded. Raises UserError if a variable is not set."""
    scheme, colon, place = path.partition(":") if path.startswith("tf:") else ("", "", path)
    return f"{scheme}{colon}{expand(place)}" if place.startswith("~") or "$" in place else path


@dataclass
class ASPPConfig:
    """Settings of the ASPP, `model.aspp`."""

    channels: int = 256
    atrous_rates: list[int] = field(default_factory=lambda: [6, 12, 18])
    """Atrous rates at output stride 16. Output stride 8 doubles them; output stride 32 halves them."""
    separable: bool = True
    image_pooling: bool = True
    dropout: float = 0.1

    def __post_init__(self) -> None:
        check(0 < self.channels <= LARGEST, "model.aspp.channels", self.channels, f"from 1 to {LARGEST}")
        check(
            all(0 < rate <= LARGEST for rate in self.atrous_rates),
            "model.aspp.atrous_rates",
            self.atrous_rates,
            f"from 1 to {LARGEST}",
        )
        check(0 <= self.dropout < 1, "model.aspp.dropout", self.dropout, "from 0 to below 1")


@dataclass
class DecoderConfig:
    """Settings of the decoder, `model.decoder`."""

    low_level_channels: int = 48
    """Channels of the low-level features after the 1x1 convolution."""
    convolutions: list[Any] = field(default_factory=lambda: [[3, 256], [3, 256]])
    """Kernel size (1 or 3) and channels of each convolution."""
    separable: bool = True
    conv3: bool = False
    """Also join the features at stride 8, before those at stride 4."""

    def __post_init__(self) -> None:
        fits = 0 < self.low_level_channels <= LARGEST
        check(fits, "model.decoder.low_level_channels", self.low_level_channels, f"from 1 to {LARGEST}")
        for item in self.convolutions:
            fits = isinstance(item, list) and len(item) == 2 and item[0] in (1, 3) and isinstance(item[1], int)
            fits = fits and 0 < item[1] <= LARGEST
            check(fits, "model.decoder.convolutions", self.convolutions, "pairs of kernel (1 or 3) and channels")


BACKBONES = ("xception", "xception41", "xception65", "xception71")


@dataclass
class ModelConfig:
    """Settings of the network, `model`."""

    backbone: str = "xception65"
    """xception (the original), xception41, xception65, xception71; with `smp`, an encoder name of that library."""
    smp: str | None = None
    """Use this architecture of segmentation-models-pytorch, such as DeepLabV3Plus; null: the DeepLab V3+ of seg."""
    weights: str | None = None
    """Weights to start from: FILE.safetensors, tf:PATH/model.ckpt-N, timm:NAME, hf:OWNER/NAME or a folder saved by
    segmentation-models-pytorch (see seg/weights/sources.py); with `smp`, also a name of published encoder weights, such as
    imagenet. null: random weights; random: the same, and allows freezing randomly initialized layers."""
    weights_use: Literal["full", "partial", "warm_start"] = "full"
    """full: the weights must cover the whole backbone. partial: they may cover only a part. warm_start: weights of the original
    Xception initialize an aligned Xception."""
    activation_placement: Literal["paper", "tf"] = "paper"
    """Position of batch norm and ReLU in the aligned Xceptions: paper (after each convolution), or tf (as in all published
    weights)."""
    width: float = 1.0
    """Multiplier of the backbone's channels; the results are rounded to multiples of 8."""
    output_stride: Literal[8, 16, 32] = 16
    initialization: Literal["released", "he"] = "released"
    """Initialization of random weights: released (as in the TensorFlow code), or he (He et al.), which learns faster."""
    residual: bool = True
    """false: no residual connections (arXiv 1610.02357, section 4.7)."""
    separable_activation: Literal["none", "relu", "elu"] | None = None
    """Activation between depthwise and pointwise convolutions of the backbone; null: determined by `activation_placement`."""
    spatial_groups: int | None = None
    """Groups of channels in the backbone's spatial convolutions: 1 is dense; null is one group per channel (depthwise)."""
    image_classes: int | None = None
    """Number of classes of an image classifier, as trained on ImageNet; null: a segmentation network."""
    context: Literal["aspp", "dpc"] = "aspp"
    """Context module after the backbone: aspp, or dpc (the dense prediction cell of arXiv 1809.04184)."""
    aspp: ASPPConfig = field(default_factory=ASPPConfig)
    decoder: DecoderConfig | None = field(default_factory=DecoderConfig)
    """null: no decoder; the classifier follows the ASPP or the dense prediction cell."""

    @property
    def title(self) -> str:
        """The network in words, such as "DeepLab V3+, xception65"."""
        parts = [self.smp or "DeepLab V3+", self.backbone]
        if not self.smp:
            parts += [f"width {self.width:g}"] * (self.width != 1) + ["no decoder"] * (self.decoder is None)
        return ", ".join(parts)

    def __post_init__(self) -> None:
        if self.smp is None and self.backbone not in BACKBONES:
            meant = choice_meant(self.backbone, BACKBONES)
            other = f"; others are those of segmentation-models-pytorch: seg train voc_smp model.backbone={self.backbone}"
            hint = did_you_mean(meant or self.backbone, BACKBONES) + ("" if meant else other)
            raise UserError(f"model.backbone={self.backbone}: not a backbone{hint}")
        check_choices(self, "model.")
        self.weights = self.weights and expanded(self.weights)
        check(
            self.spatial_groups is None or self.spatial_groups > 0,
            "model.spatial_groups",
            self.spatial_groups,
            "null or at least 1",
        )
        check(
            self.image_classes is None or 0 < self.image_classes <= LARGEST,
            "model.image_classes",
            self.image_classes,
            f"null or from 1 to {LARGEST}",
        )
        check(0 < self.width <= 8, "model.width", self.width, "above 0, at most 8")
        if self.context == "dpc":
            check(self.output_stride <= 16, "model.output_stride", self.output_stride, "8 or 16 with model.context=dpc")
            if self.aspp != ASPPConfig():
                raise UserError("model.aspp: has no effect with model.context=dpc, which has no ASPP; remove these settings")

    @property
    def published(self) -> str | None:
        """Name of published encoder weights of segmentation-models-pytorch, if `weights` is such a name; else None."""
        named = self.smp is not None and self.weights is not None and not any(mark in self.weights for mark in "/.:\\")
        return self.weights if named and self.weights != "random" else None

    @property
    def source(self) -> str | None:
        """`weights`, if it is a source of weights to load into the network; else None."""
        return None if self.published or self.weights == "random" else self.weights


@dataclass
class DataConfig:
    """Settings of the data set and the augmentation, `data`."""

    root: str = "data/VOC2012"
    """Folder with JPEGImages, SegmentationClassAug or SegmentationClass, and ImageSets/Segmentation."""
    labels: str = "voc"
    """voc, or a YAML file of class names and colors."""
    masks: str | None = None
    """Folder of the masks; null: SegmentationClassAug if it exists, else SegmentationClass."""
    train: str = "trainaug"
    """Split to train on: the name of a list in ImageSets/Segmentation."""
    sources: list[Any] = field(default_factory=list)
    """Data sets to train on together, instead of `root` and `train`: [{root: a, split: train, weight: 2, masks: null,
    values: {7: road, 8: void}}, {root: b}]. weight: relative share of the crops; without weights, each image is used once per
    epoch. values: class name of each value in this data set's masks; null: as defined by `labels`."""
    val: str = "val"
    crop_size: Any = 513
    """Size of the training crop in pixels: one side for a square crop, or [height, width]."""
    scale_min: float = 0.5
    scale_max: float = 2.0
    scale_step: float = 0.25
    """The random scale is one of scale_min, scale_min + scale_step, ..., scale_max; 0: any number in that range."""
    flip: float = 0.5
    """Probability of a horizontal flip."""
    transforms: list[Any] = field(default_factory=list)
    """Names of albumentations transforms, applied to the uint8 image before scaling:
    [{ColorJitter: {brightness: 0.2}}, ToGray]."""
    balanced: bool = False
    """Balance classes: choose a random class first, then an image that contains it. false: use each image once per epoch."""
    num_workers: int = 2
    """Number of worker processes of the data loader; 0: load in the training process."""

    @property
    def crop(self) -> tuple[int, int]:
        """Height and width of the training crop, in pixels."""
        height, width = self.crop_size if isinstance(self.crop_size, list) else (self.crop_size, self.crop_size)
        return height, width

    @property
    def trained_on(self) -> str:
        """Description of the training data sets and splits."""
        sources = self.sources or [{"root": self.root}]
        return "; ".join(f"{source['root']}, split {source.get('split', self.train)}" for source in sources)

    def __post_init__(self) -> None:
        self.root, self.labels, self.masks = expanded(self.root), expanded(self.labels), self.masks and expanded(self.masks)
        self.sources = [_source(number, source) for number, source in enumerate(self.sources)]
        sides = self.crop_size if isinstance(self.crop_size, list) else [self.crop_size] * 2
        whole = len(sides) == 2 and all(isinstance(side, Integral) and not isinstance(side, bool) for side in sides)
        check(whole, "data.crop_size", self.crop_size, "a whole number of pixels, or two: [height, width]")
        wants = f"at least 33, the smallest image the network takes, and at most {LARGEST}"
        check(all(33 <= side <= LARGEST for side in sides), "data.crop_size", self.crop_size, wants)
        check(0 < self.scale_min <= self.scale_max, "data.scale_min", self.scale_min, "above 0, at most data.scale_max")
        check(self.scale_max <= 16, "data.scale_max", self.scale_max, "at most 16")
        fits = self.scale_step == 0 or 1e-3 <= self.scale_step <= 16
        check(fits, "data.scale_step", self.scale_step, "0, or from 0.001 to 16")
        check(0 <= self.flip <= 1, "data.flip", self.flip, "a probability")
        check(0 <= self.num_workers <= 256, "data.num_workers", self.num_workers, "from 0 to 256")


SOURCE = ("root", "split", "weight", "masks", "values")


def _source(number: int, source: Any) -> dict[str, Any]:
    """An entry of `data.sources`, checked, with its paths expanded."""
    place = f"data.sources[{number}]"
    if not isinstance(source, dict) or not isinstance(source.get("root"), str):
        raise UserError(f"{place}={source!r}: must be a mapping with a root, as {{root: data/a, split: train, weight: 2}}")
    for key in source:
        if key not in SOURCE:
            raise UserError(f"{place}.{key}: not a setting of a source{did_you_mean(str(key), SOURCE)}")
    for key in ("split", "masks"):
        if source.get(key) is not None and not isinstance(source[key], str):
            raise UserError(f"{place}.{key}={source[key]!r}: must be a text")
    weight = source.get("weight", 1)
    fits = isinstance(weight, int | float) and not isinstance(weight, bool) and 0 < weight < math.inf
    check(fits, f"{place}.weight", weight, "a number above 0")
    return {key: expanded(value) if key in ("root", "masks") and value else value for key, value in source.items()}


@dataclass
class TrainConfig:
    """Settings of the training, `train`."""

    iterations: int = 30000
    batch_size: Any = 16
    """Crops per iteration, over all processes. auto: `target_batch_size`, with the smallest `grad_accumulation` that is
    estimated to fit into memory. config.yaml of the run stores both numbers, and a resumed run keeps them."""
    target_batch_size: int = 16
    """Crops per iteration with `batch_size: auto`. If the command line sets auto, the number in the file is used."""
    optimizer: Literal["sgd", "adamw"] = "sgd"
    """sgd: with momentum, as in the released code. adamw: Adam with decoupled weight decay (arXiv 1711.05101), betas `momentum`
    and 0.999."""
    learning_rate: float | None = None
    """Initial learning rate; null: 0.007 for sgd, 0.0002 for adamw."""
    head_lr_multiplier: float = 1.0
    """Learning-rate multiplier of everything outside the backbone."""
    warmup: int = 0
    """Iterations of the linear warm-up of the learning rate."""
    schedule: Literal["poly", "exponential", "cosine"] = "poly"
    """poly: (1 - i / iterations) ^ power. exponential: decay ^ floor(i / decay_every). cosine: (1 + cos(pi i / iterations)) / 2
    (arXiv 1608.03983)."""
    power: float = 0.9
    decay: float = 0.94
    decay_every: int = 2000
    """Iterations between two steps of the exponential schedule."""
    momentum: float = 0.9
    weight_decay: float | None = None
    """Weight decay of convolution weights. As in the released code, depthwise convolutions, batch norm and biases have none.
    null: 4e-5 for sgd, 0.01 for adamw."""
    loss: dict[str, float] = field(default_factory=lambda: {"cross_entropy": 1.0})
    """Weight of each loss in the sum: cross_entropy, dice, jaccard, lovasz, focal. The default weight of cross_entropy is 1.
    A single name, as in loss=dice, selects this loss without cross_entropy."""
    class_weights: Any = None
    """Class weights of the cross-entropy: null, a list, {class name: weight} (1 for all other classes), or balanced:
    (median frequency / frequency)^0.5 in the training masks, between 0.3 and 3."""
    hard_pixels: float = 1.0
    """Hard example mining: only this share of the pixels, those with the largest cross-entropy, counts. It is
    top_k_percent_pixels of the released code. 1: all pixels."""
    hard_pixels_steps: int = 0
    """Iterations over which the share decreases from 1 to `hard_pixels` (hard_example_mining_step of the released code)."""
    label_smoothing: float = 0.0
    """Label smoothing: share of each target that is spread over all classes (arXiv 1512.00567, section 7)."""
    batch_norm_momentum: float = 0.0003
    """Weight of a batch in the running statistics of batch norm; the default is that of the released code. Use 0.03 for
    short runs."""
    ema_decay: float = 0.0
    """Decay of the exponential moving average (EMA) of the weights. The average is validated and saved as best. 0: no EMA."""
    grad_accumulation: int = 1
    """Number of parts into which a batch is divided, to reduce memory. With frozen batch norm, the gradient is the same."""
    precision: Literal["auto", "float32", "float32-exact", "bfloat16", "float16"] = "auto"
    """Precision of the network; weights, loss and sums stay float32. auto: bfloat16 if the hardware supports it, float16 with
    loss scaling on older GPUs, else float32. float32 lets convolutions use TF32 on NVIDIA GPUs, as PyTorch does; float32-exact
    does not. config.yaml of the run stores the chosen precision, and a resumed run keeps it."""
    recompute: Literal["auto", True, False] = "auto"
    """Recompute batch norm's outputs in the backward pass instead of storing them: about 40 % less memory, but slower. auto:
    only if the training would not fit into memory otherwise. No effect with `compile`, where the compiler decides."""
    deterministic: bool = False
    """Use deterministic algorithms on GPUs: slower, but a resumed run gives bit-identical results, as on CPUs."""
    grad_clip_norm: float | None = None
    """Largest norm of the gradient; null: no clipping."""
    non_finite: Literal["stop", "skip"] = "stop"
    """What to do on a NaN or infinite gradient: stop the run, or skip the update."""
    checkpoint_activations: bool = False
    """Recompute the backbone's activations in the backward pass instead of storing them."""
    compile: bool = False
    """Compile the network with torch.compile, which decides what to store for the backward pass. Cannot be combined with
    `checkpoint_activations`."""
    freeze_backbone: bool = False
    """Train only the head. To also freeze the batch norm statistics of the backbone, set `freeze_batch_norm`."""
    freeze_batch_norm: Literal["none", "backbone", "all"] = "none"
    """Batch norm layers that use their running statistics without updating them: none, backbone, or all."""
    seed: int = 0
    validate_every: int = 1000
    """Iterations between validations; each validation also writes a checkpoint."""
    patience: int | None = None
    """Early stopping: end training after this number of validations without a better mIoU. null: no early stopping."""
    keep_best: int = 1
    """Number of weights files to keep, by validation mIoU. best.safetensors is always the best; with 2 or more, the files
    are also stored as best_iteration_N.safetensors."""
    log_every: int = 10
    loggers: list[str] = field(default_factory=lambda: ["tensorboard"])
    """Loggers of the training: tensorboard, wandb, mlflow, comet. metrics.jsonl is always written."""

    def __post_init__(self) -> None:
        number = isinstance(self.batch_size, int) and not isinstance(self.batch_size, bool) and 0 < self.batch_size <= LARGEST
        check(number or self.batch_size == "auto", "train.batch_size", self.batch_size, f"auto, or from 1 to {LARGEST}")
        for key in ("iterations", "target_batch_size", "validate_every", "log_every", "decay_every", "grad_accumulation"):
            most = LARGEST if key == "target_batch_size" else 2**31
            check(0 < getattr(self, key) <= most, f"train.{key}", getattr(self, key), f"from 1 to {most}")
        if self.batch_size == "auto" and self.grad_accumulation != 1:
            raise UserError(f"train.grad_accumulation={self.grad_accumulation}: train.batch_size=auto chooses it; set it to 1")
        check(self.patience is None or self.patience > 0, "train.patience", self.patience, "null or at least 1")
        check(0 < self.keep_best <= 1000, "train.keep_best", self.keep_best, "from 1 to 1000")
        check_choices(self, "train.")
        for key, default in DEFAULTS[self.optimizer].items():
            if getattr(self, key) is None:
                setattr(self, key, default)
        for key in ("learning_rate", "head_lr_multiplier", "power", "momentum", "weight_decay"):
            check(getattr(self, key) >= 0, f"train.{key}", getattr(self, key), "0 or more")
        check(self.optimizer == "sgd" or self.momentum < 1, "train.momentum", self.momentum, "below 1 with adamw")
        check(0 < self.hard_pixels <= 1, "train.hard_pixels", self.hard_pixels, "above 0, at most 1")
        for key in ("warmup", "seed", "hard_pixels_steps"):
            check(0 <= getattr(self, key) <= 2**31, f"train.{key}", getattr(self, key), f"from 0 to {2**31}")
        check(0 < self.batch_norm_momentum <= 1, "train.batch_norm_momentum", self.batch_norm_momentum, "above 0, at most 1")
        check(
            self.grad_clip_norm is None or self.grad_clip_norm > 0,
            "train.grad_clip_norm",
            self.grad_clip_norm,
            "null or above 0",
        )
        for name in self.loggers:
            if name not in LOGGERS:
                meant = did_you_mean(choice_meant(name, LOGGERS) or name, LOGGERS)
                raise UserError(f"train.loggers: '{name}' is not a logger{meant}")
        if self.compile and self.checkpoint_activations:
            raise UserError(
                "train.compile with train.checkpoint_activations: torch.compile cannot trace it; set one of them to false"
            )
        check(0 < self.decay <= 1, "train.decay", self.decay, "above 0, at most 1")
        check(0 <= self.ema_decay < 1, "train.ema_decay", self.ema_decay, "from 0 to below 1")
        self.loss = {"cross_entropy": 1.0} | self.loss
        for name, weight in self.loss.items():
            if name not in LOSSES:
                raise UserError(f"train.loss.{name}: not a loss{did_you_mean(choice_meant(name, LOSSES) or name, LOSSES)}")
            check(weight >= 0, f"train.loss.{name}", weight, "0 or more")
        check(any(self.loss.values()), "train.loss", self.loss, "at least one loss with a weight above 0")
        check(0 <= self.label_smoothing < 1, "train.label_smoothing", self.label_smoothing, "from 0 to below 1")
        weights = self.class_weights
        given = weights.values() if isinstance(weights, dict) else weights if isinstance(weights, list) else [None]
        numbers = all(isinstance(w, int | float) and w >= 0 for w in given)
        wants = "null, balanced, a list of numbers or {class name: number}"
        check(weights in (None, "balanced") or numbers, "train.class_weights", weights, wants)


DEFAULTS = {"sgd": {"learning_rate": 0.007, "weight_decay": 4e-5}, "adamw": {"learning_rate": 2e-4, "weight_decay": 0.01}}
LOGGERS = ("tensorboard", "wandb", "mlflow", "comet")
LOSSES = ("cross_entropy", "dice", "jaccard", "lovasz", "focal")


@dataclass
class InferenceConfig:
    """Settings of inference, `evaluate`: for validation, evaluation, prediction and export."""

    output_stride: Literal[8, 16, 32] | None = None
    """Output stride of inference; null: the output stride of the model."""
    scales: list[float] = field(default_factory=lambda: [1.0])
    flip: bool = False
    """Also average the softmax over the horizontally flipped image."""
    canvas: int | None = 513
    """Pad each image at the bottom and right to a square of this size, as in the released code; null: no padding."""
    longest: Any = "auto"
    """Longest side of an image for inference, in pixels; the mask keeps the original size. A number: larger images are
    reduced to it. native: images are not reduced. auto: in prediction, images of over 1.5 times the size of the training
    images are reduced to that size; in evaluation, images are not reduced."""
    every_nth: int = 1
    """Validate on every n-th image of the split during training. `seg evaluate` always uses all images."""
    tile: int = 1537
    """Side of a tile in pixels. Images with more pixels are cut into overlapping tiles, and their scores are blended."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Precision of the network in inference; scores stay float32. bfloat16 needs hardware support. Validation during training
    uses `train.precision` instead."""

    def __post_init__(self) -> None:
        check_choices(self, "evaluate.")
        fits = bool(self.scales) and all(0.1 <= scale <= 8 for scale in self.scales)
        check(fits, "evaluate.scales", self.scales, "numbers from 0.1 to 8")
        check(
            self.canvas is None or 33 <= self.canvas <= LARGEST,
            "evaluate.canvas",
            self.canvas,
            f"null, or from 33 to {LARGEST}",
        )
        number = isinstance(self.longest, int) and not isinstance(self.longest, bool) and 33 <= self.longest <= LARGEST
        fits = self.longest in ("auto", "native") or number
        check(fits, "evaluate.longest", self.longest, f"auto, native, or from 33 to {LARGEST} pixels")
        check(self.every_nth > 0, "evaluate.every_nth", self.every_nth, "1 or more")
        fits = 257 <= self.tile <= LARGEST and self.tile % 16 == 1
        check(fits, "evaluate.tile", self.tile, f"16 k + 1, from 257 to {LARGEST}")


@dataclass
class Config:
    """All settings of a run."""

    name: str = ""
    """Name of the run; its folder is runs/NAME. Empty: the name of the configuration file."""
    runs: str = "runs"
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    evaluate: InferenceConfig = field(default_factory=InferenceConfig)
    device: str = "auto"
    """Compute device: auto (the first available of CUDA, MPS, XPU and CPU), cpu, cuda, cuda:1, mps or xpu."""

    def __post_init__(self) -> None:
        check_device_name(self.device)
        self.runs = expanded(self.runs)

    @property
    def folder(self) -> Path:
        """The run folder."""
        return Path(self.runs) / self.name


def _section(hint: Any) -> Any:
    """Dataclass type of a field, or None; Optional[X] counts as X."""
    return next((t for t in (hint, *get_args(hint)) if is_dataclass(t)), None)


def setting_names(cls: Any = Config, prefix: str = "") -> list[str]:
    """Dotted names of all settings and sections of a dataclass."""
    hints = get_type_hints(cls)
    found = []
    for item in fields(cls):
        found.append(prefix + item.name)
        if section := _section(hints[item.name]):
            found += setting_names(section, f"{prefix}{item.name}.")
    return found


def _check_keys(value: Any, cls: Any, place: str, prefix: str = "") -> None:
    hints = get_type_hints(cls)
    for key, item in value.items():
        if key not in hints:
            path = inner_key(f"{prefix}{key}", item, setting_names())
            raise UserError(f"{place}: unknown setting '{path}'; {key_hint(path, setting_names(), hints)}")
        section = _section(hints[key])
        if section and item is not None:
            if not isinstance(item, dict):
                raise UserError(f"{place}: '{prefix}{key}' is a section of settings, not the value {item!r}")
            _check_keys(item, section, place, f"{prefix}{key}.")
        if not (isinstance(item, str) and "${" in item):
            check_choice(hints[key], f"{place}: {prefix}{key}", item)
        if isinstance(item, bool) and (hints[key] is str or str in get_args(hints[key])):
            # OmegaConf would make it the text False: weights: no.
            optional = " or null" * (type(None) in get_args(hints[key]))
            raise UserError(f"{place}: {prefix}{key}={str(item).lower()}: must be {KINDS['str']}{optional}")
        kind = get_origin(hints[key])
        if kind in (list, dict) and not isinstance(item, kind):
            wants = "a list, as [a, b]" if kind is list else "a mapping, as {a: 1.0}"
            raise UserError(f"{place}: {prefix}{key}: must be {wants}, not {item!r}")


def _refuse_epochs(given: dict[str, Any], below: dict[str, Any]) -> None:
    """Reject a number of epochs, with an error that states the equivalent number of iterations for the data set.

    Args:
        given: the settings to check.
        below: the settings of the file, if `given` are overrides.

    Raises:
        UserError: `given` has a number of epochs.
    """
    epochs = find_epochs(given)
    if epochs is None:
        return

    def setting(section: str, key: str, default: Any) -> Any:
        places = [settings[section] for settings in (given, below) if isinstance(settings.get(section), dict)]
        return next((place[key] for place in places if key in place), default)

    batch, split = setting("train", "batch_size", TrainConfig().batch_size), setting("data", "train", DataConfig().train)
    if batch == "auto":
        batch = setting("train", "target_batch_size", TrainConfig().target_batch_size)
    root = Path(expanded(str(setting("data", "root", DataConfig().root))))
    listed = root / LISTS / f"{split}.txt"
    images = len(read_lines(listed)) if listed.is_file() else 0
    count = "give train.iterations: epochs * images / train.batch_size"
    if images and isinstance(batch, int) and batch > 0:
        iterations = math.ceil(epochs * images / batch)
        count = f"{epochs:g} epochs of the {images} images of {split} in batches of {batch} are train.iterations={iterations}"
    raise UserError(f"epochs={epochs:g}: the length of training is set in iterations; {count}")


def _with_environment(value: Any) -> Any:
    """The settings with each `${NAME}` that is no reference to a setting as OmegaConf's environment variable."""
    if isinstance(value, dict):
        return {key: _with_environment(item) for key, item in value.items()}
    if isinstance(value, str):
        known = {item.name for item in fields(Config)}
        return re.sub(r"\$\{([A-Za-z_]\w*)\}", lambda m: m[0] if m[1] in known else f"${{oc.env:{m[1]}}}", value)
    return value


def _with_named_loss(value: Any) -> Any:
    """Replace a loss name, such as `train.loss: dice`, by a mapping that selects only this loss."""
    train = value.get("train") if isinstance(value, dict) else None
    if not isinstance(train, dict) or not isinstance(train.get("loss"), str):
        return value
    return value | {"train": train | {"loss": {"cross_entropy": 0.0} | {train["loss"]: 1.0}}}


def _with_target_batch(given: dict[str, Any], below: dict[str, Any]) -> dict[str, Any]:
    """The overrides `given`; with `train.batch_size=auto` among them, the batch size of the file `below` is the target."""
    train, file = given.get("train"), below.get("train")
    if not (isinstance(train, dict) and train.get("batch_size") == "auto" and isinstance(file, dict)):
        return given
    batch = file.get("batch_size", "auto")
    if batch == "auto" or "target_batch_size" in file:
        return given
    return given | {"train": {"target_batch_size": batch} | train}


def from_dict(value: Any, place: str, overrides: Iterable[str] = ()) -> Config:
    """The configuration of a mapping, with `key=value` overrides. Raises a UserError that names the setting and `place`."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    if not isinstance(value, dict):
        raise UserError(f"{place}: a configuration must be a mapping of settings, not {value!r}")
    value = _with_named_loss(value)
    _refuse_epochs(value, {})
    _check_keys(value, Config, place)
    overrides = list(overrides)
    for item in overrides:
        if "=" not in item:
            raise UserError(f"'{item}': an override is KEY=VALUE, such as train.iterations=100")
    try:
        extra = OmegaConf.from_dotlist(overrides)
    except Exception as error:  # YAML errors have several classes
        raise UserError(f"{' '.join(overrides)}: not KEY=VALUE with a YAML value: {reason(error)}") from error
    given = _with_target_batch(_with_named_loss(OmegaConf.to_container(extra)), value)
    _refuse_epochs(given, value)
    _check_keys(given, Config, "command line")
    merged = OmegaConf.structured(Config)
    for source, settings in ((place, value), ("command line", given)):
        try:
            merged = OmegaConf.merge(merged, OmegaConf.create(_with_environment(settings)))
        except OmegaConfBaseException as error:
            raise UserError(f"{source}: {_wrong_type(error)}") from error
    try:
        config = OmegaConf.to_object(merged)
    except UserError as error:
        raise UserError(f"{place}{' and command line' if overrides else ''}: {error}") from error
    except OmegaConfBaseException as error:  # a reference, ${...}, to a setting that does not exist
        raise UserError(f"{place}: {getattr(error, 'full_key', None)}: {str(error).splitlines()[0]}") from error
    assert isinstance(config, Config)
    return config


def _wrong_type(error: Exception) -> str:
    """What a setting must be, in our words: OmegaConf speaks of its own types."""
    key, line = getattr(error, "full_key", None) or "a setting", (getattr(error, "msg", None) or str(error)).splitlines()[0]
    value = re.search(r"'(.*)' (?:of type|is not|for field)|: '(.*)'$", line)
    kind = next((words for kind, words in KINDS.items() if re.search(rf"(to |valid |of type '){kind}", line)), None)
    if not (value and kind):
        return f"{key}: {line}"
    hint: Any = Config
    for part in key.partition("[")[0].split("."):
        section = _section(hint)
        hint = get_type_hints(section).get(part) if section else None
    given = (value[1] or value[2]).replace("None", "null")
    return f"{key}={given}: must be {kind}" + " or null" * (type(None) in get_args(hint))


KINDS = {"(Integer|int)": "a whole number", "(Float|float)": "a number", "bool": "true or false", "str": "a text"}
"""Types of settings, as OmegaConf's errors name them."""
SUFFIXES = (".yaml", ".yml")
RUN_CONFIG = "config.yaml"
"""The configuration in a run's folder, which stands for it."""


def names() -> list[str]:
    """The names of the configurations that come with the package."""
    return sorted(path.stem for path in _folder().glob("*.yaml"))


def _folder() -> Path:
    """`seg/configs` of an installed package; in a checkout, `configs` beside `seg`."""
    installed = Path(__file__).parent / "configs"
    return installed if installed.is_dir() else Path(__file__).parents[1] / "configs"


def is_configuration(source: str | Path) -> bool:
    """Whether this is the path of a YAML file or the (possibly misspelled) name of a configuration of the package."""
    named = difflib.get_close_matches(str(source), names(), n=1, cutoff=0.85) and not Path(source).exists()
    return str(source).endswith(SUFFIXES) or str(source) in names() or bool(named)


def find(source: str | Path) -> Path:
    """The YAML file of a configuration, by its path or by the name of one that comes with the package. Raises UserError."""
    path, known = Path(expanded(str(source))), names()
    if str(source) in known:
        return _folder() / f"{source}.yaml"
    if path.suffix in SUFFIXES:
        if path.stem in known and not path.exists():
            raise UserError(f"{path}: no such file; did you mean the configuration that comes with seg, '{path.stem}'?")
        if not path.exists():
            raise UserError(f"{path}: no such configuration file; seg train --list shows those that come with seg")
        return path
    if path.is_file():
        return path
    if (path / RUN_CONFIG).is_file():
        return path / RUN_CONFIG
    close = difflib.get_close_matches(str(source), known, n=1)
    hint = f"did you mean '{close[0]}'? Or " if close else ""
    raise UserError(f"{source}: no such configuration; {hint}give the path of a YAML file, or a name: {', '.join(known)}")


def headline(name: str) -> str:
    """The first line of the comment at the top of a configuration that comes with the package."""
    with find(name).open(encoding="utf-8") as file:
        return file.readline().strip("# \n")


def load(source: str | Path, overrides: Iterable[str] = ()) -> Config:
    """The configuration in a YAML file, with `key=value` overrides.

    Args:
        source: the path of a YAML file, or the name of a configuration that comes with the package (see `names`).
        overrides: strings KEY=VALUE, such as "train.iterations=100"; the last wins.

    Returns:
        the configuration; its name is that of the file, unless the file or an override sets one.

    Raises:
        UserError: no such configuration, an unknown setting, or a value out of range.
    """
    path = find(source)
    config = from_dict(read_yaml(path, "a configuration"), str(path), overrides)
    config.name = config.name or path.stem
    return config


def as_dict(config: Config) -> dict[str, Any]:
    """The settings as plain values, for YAML and metadata; `from_dict` reads them."""
    return asdict(config)


def flat(config: Config) -> dict[str, bool | int | float | str]:
    """The settings by their dotted names; lists and mappings are text."""
    found: dict[str, bool | int | float | str] = {}

    def add(value: dict[str, Any], place: str) -> None:
        for key, item in value.items():
            if isinstance(item, dict) and item and place + key != "train.loss":
                add(item, f"{place}{key}.")
            else:
                found[place + key] = item if isinstance(item, bool | int | float | str) else str(item)

    add(asdict(config), "")
    return found
