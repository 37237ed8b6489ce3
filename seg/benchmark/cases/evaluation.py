"""Section evaluation: confusion matrices, and a whole evaluation beside its forward passes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..harness import Case, Limit, Side, Work
from .extras import installed
from .images import open_val
from .networks import our_network

if TYPE_CHECKING:
    import numpy as np

    from ...data.voc import Split


def mask_pairs(root: str) -> tuple[list[tuple[np.ndarray, np.ndarray]], int]:
    """Return truth and prediction, uint8, of each image, and the number of classes. The prediction is the truth, shifted."""
    import numpy as np

    split = open_val(root)
    truths = [split.mask(index) for index in range(len(split))]
    return [(truth, np.roll(np.where(truth == 255, 0, truth), 5, 1)) for truth in truths], len(split.labels)


def our_matrix(root: str) -> Work:
    """Prepare our confusion matrix of each pair of masks."""
    from ...evaluation.metrics import confusion_matrix

    pairs, classes = mask_pairs(root)
    return lambda: [confusion_matrix(truth, prediction, classes) for truth, prediction in pairs]


def numpy_matrix(root: str) -> Work:
    """Prepare the usual confusion matrix by numpy.bincount."""
    import numpy as np

    pairs, classes = mask_pairs(root)

    def matrix(truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
        keep = truth != 255
        return np.bincount(truth[keep].astype(int) * classes + prediction[keep], minlength=classes**2)

    return lambda: [matrix(*pair) for pair in pairs]


def torchmetrics_matrix(root: str) -> Work:
    """Prepare the confusion matrix of torchmetrics."""
    import torch
    from torchmetrics.classification import MulticlassConfusionMatrix

    pairs, classes = mask_pairs(root)
    tensors = [[torch.from_numpy(mask).long() for mask in pair] for pair in pairs]
    metric = MulticlassConfusionMatrix(classes, ignore_index=255)

    def work() -> object:
        for truth, prediction in tensors:
            metric.update(prediction, truth)
        return metric.confmat.numpy()

    return work


def copying(root: str) -> Work:
    """Prepare a copy of both masks of each pair, which is the least that reading them takes."""
    import numpy as np

    pairs, _ = mask_pairs(root)
    buffer = np.empty(max(truth.size for truth, _ in pairs), np.uint8)

    def work() -> None:
        for pair in pairs:
            for mask in pair:
                np.copyto(buffer[: mask.size], mask.ravel())

    return work


def first_images(root: str, images: int) -> Split:
    """Open the first images of the validation split."""
    split = open_val(root)
    return replace(split, ids=split.ids[:images], images=split.images[:images], masks=split.masks[:images])


def prepare_evaluation(
    root: str, images: int, canvas: int, scales: tuple[float, ...], flip: bool, backbone: str, width: float
) -> tuple[Any, Work]:
    """Return the network in the runtime of `seg evaluate`, and the evaluation by it."""
    from ...config import InferenceConfig
    from ...evaluation.evaluator import evaluate_model
    from ...inference.predictor import Predictor
    from ...labels import VOC
    from ...runtimes.open import in_runtime

    model: Any = in_runtime(our_network(backbone, width), "torch")
    split = first_images(root, images)
    predictor = Predictor(model, VOC, InferenceConfig(None, list(scales), flip, canvas))
    return model, lambda: evaluate_model(predictor, split)


def whole_evaluation(*arguments: Any) -> Work:
    """Prepare an evaluation; arguments as of `prepare_evaluation`."""
    return prepare_evaluation(*arguments)[1]


def forward_passes(*arguments: Any) -> Work:
    """Prepare the forward passes of that evaluation alone, on the same inputs."""
    import torch

    model, evaluate = prepare_evaluation(*arguments)
    logits, inputs = model.logits, []

    def recorded(images: torch.Tensor) -> torch.Tensor:
        inputs.append(images)
        return logits(images)  # type: ignore[no-any-return]

    model.logits = recorded
    evaluate()

    @torch.inference_mode()
    def work() -> None:
        for images in inputs:
            logits(images)

    return work


def matrix_cases(root: str) -> list[Case]:
    """Compare the confusion matrix with numpy's and, where installed, torchmetrics'."""
    pairs, _ = mask_pairs(root)
    count, gigabytes = len(pairs), 1e-9 * sum(truth.size + prediction.size for truth, prediction in pairs)
    copies = Side("copying", copying, (root,), count)
    limit = Limit("copying both masks", "GB", gigabytes / count, (copies,), (gigabytes / count,))
    ours = Side("ours", our_matrix, (root,), count)
    peers = [Side("numpy bincount", numpy_matrix, (root,), count)]
    if installed("torchmetrics"):
        peers.append(Side("torchmetrics", torchmetrics_matrix, (root,), count))
    return [Case("evaluation", "confusion matrix of a mask", ours, peer, limit) for peer in peers]


def cases(root: str, images: int = 3, canvas: int = 513, backbone: str = "xception65", width: float = 1.0) -> list[Case]:
    """Compare confusion matrices with other libraries', and an evaluation with its forward passes alone."""
    found = matrix_cases(root)
    for name, count, scales, flip in (
        (f"an image of {images}", images, (1.0,), False),
        ("one image, two scales and flip", 1, (0.5, 1.0), True),
    ):
        arguments = root, count, canvas, scales, flip, backbone, width
        whole = Side("ours", whole_evaluation, arguments, count)
        found.append(Case("evaluation", name, whole, Side("its forward passes alone", forward_passes, arguments, count)))
    return found
