"""The project's own speed and memory table: each row ours against a named peer, measured in the same run.

Each side has a process of its own, in which nothing else is done: the allocator, as another's work has left it, makes the same
work up to twice as fast or slow.
Seconds: of one piece of work (an image, a step, a mask), medians over runs in which all sides of a section take turns (ours,
peer, ours, peer ...), after two calls to warm up; on a GPU by CUDA events.
Memory: what those two calls take at their peak beyond what was there before them. Of the GPU where the work uses it, else
resident (Linux; elsewhere unknown).
Limits: what the machine does on the same operations, pixels or files and nothing else: the best of the same turns.
"""

import contextlib
import ctypes
import gc
import importlib.util
import io
import itertools
import multiprocessing
import os
import platform
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from ..errors import UserError, did_you_mean
from ..progress import print_stderr

# torch is imported by the work that needs it: a process inherits the memory peak of the one that starts it.

CLASSES = 21
SIZE = 500
"""Longer side of VOC's images."""
PRODUCTS = ((1089, 728, 728), (2048, 2048, 2048))
"""Matrix products, the better of which is the machine's rate: a pointwise convolution of the middle flow, and a large one."""
SHORTEST = 0.2
"""Seconds that a run takes at least: of a work that takes less, the mean of several calls counts."""


@dataclass(frozen=True)
class Side:
    """One side of a comparison. `build(*arguments)` makes all ready and returns the work, a function that is called again and
    again; both can be sent to another process."""

    name: str
    build: Callable
    arguments: tuple = ()
    pieces: int = 1
    """Pieces of work in one call: images, masks."""


@dataclass(frozen=True)
class Limit:
    """What the machine can do at best: the best rate among `sides`, a piece of each of which is the `amounts` of `unit`."""

    name: str
    unit: str
    need: float
    """Amount of a piece of our work."""
    sides: tuple[Side, ...]
    amounts: tuple[float, ...]

    def seconds(self, spent: dict[Side, list[float]]) -> float:
        """Of a piece of our work at the best rate."""
        return min(self.need / amount * min(spent[side]) for side, amount in zip(self.sides, self.amounts, strict=True))


@dataclass(frozen=True)
class Case:
    section: str
    name: str
    ours: Side
    peer: Side
    limit: Limit | None = None


@dataclass
class Row:
    """A line of the table; seconds are of one piece of work."""

    section: str
    case: str
    ours_s: float
    peer: str
    peer_s: float
    ratio: float
    """Peer over ours: above 1 where ours is faster."""
    ours_peak_mib: float | None
    peer_peak_mib: float | None
    limit: float | None
    """Seconds of the machine at its best."""
    limited_by: str | None


def benchmark(sections=(), data=None, runs: int = 5, on_run=None) -> list[Row]:
    """The rows of the named SECTIONS, all where none is named.

    data: a folder in VOC layout for the sections that read images; None: synthetic scenes of VOC's size.
    `on_run(done, total)` is called after each run of each side. Raises UserError for a section that is not there.
    """
    for name in sections:
        if name not in SECTIONS:
            raise UserError(f"seg benchmark: no section '{name}'{did_you_mean(name, SECTIONS)}")
    with tempfile.TemporaryDirectory() as folder:
        cases = []
        for name in sections or SECTIONS:
            if name in READING and data is None:
                data = folder
                write_images(folder)
            cases.append(SECTIONS[name](str(data)) if name in READING else SECTIONS[name]())
        total, done = sum(len(sides_of(part)) for part in cases) * (1 + runs), itertools.count(1)

        def tick() -> None:
            if on_run:
                on_run(next(done), total)

        return [row for part in cases for row in measure(part, runs, tick)]


def sides_of(cases: list[Case]) -> list[Side]:
    """Each once, in order, whichever rows share it."""
    return list(dict.fromkeys(side for c in cases for side in (c.ours, c.peer, *(c.limit.sides if c.limit else ()))))


def measure(cases: list[Case], runs: int, tick=lambda: None) -> list[Row]:
    """A row for each case of one section; `tick()` is called when a side is ready, and after each run."""
    with contextlib.ExitStack() as stack:
        processes = {side: stack.enter_context(Alone(side)) for side in sides_of(cases)}
        peaks, spent = {}, {side: [] for side in processes}
        for side, process in processes.items():
            peaks[side] = process.ready()
            tick()
        for _ in range(runs):
            for side, process in processes.items():
                spent[side].append(process.seconds() / side.pieces)
                tick()
    return [row_of(case, spent, peaks) for case in cases]


def row_of(case: Case, spent: dict[Side, list[float]], peaks: dict[Side, float | None]) -> Row:
    ours, peer, limit, by = median(spent[case.ours]), median(spent[case.peer]), None, None
    if case.limit:
        limit = case.limit.seconds(spent)
        by = f"{case.limit.name}, {case.limit.need / limit:.3g} {case.limit.unit}/s"
    return Row(case.section, case.name, ours, case.peer.name, peer, peer / ours, peaks[case.ours], peaks[case.peer], limit, by)


class Alone:
    """The process of one side."""

    def __init__(self, side: Side):
        self.side = side

    def __enter__(self):
        # Ctrl-C reaches the children, too: the first process decides what it means.
        self.pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), signal.signal, (signal.SIGINT, signal.SIG_IGN))
        return self

    def __exit__(self, *_):
        self.pool.shutdown(cancel_futures=True)

    def ready(self) -> float | None:
        """Build the work and call it; its `peak`."""
        return self._ask(_ready, self.side.build, self.side.arguments)

    def seconds(self) -> float:
        """Of one call; see `seconds` below."""
        return self._ask(_seconds)

    def _ask(self, function, *arguments):
        try:
            return self.pool.submit(function, *arguments).result()
        except BrokenProcessPool as error:
            raise UserError(f"seg benchmark: the process of {self.side.name} died; is memory short?") from error


_work = None
"""Of this process."""


def _ready(build, arguments) -> float | None:
    global _work
    _work = build(*arguments)
    return peak(_work)


def _seconds() -> float:
    return seconds(_work)


def on_gpu() -> bool:
    return "torch" in sys.modules and sys.modules["torch"].cuda.is_available()


def seconds(work) -> float:
    """Of one call: the mean of as many as take SHORTEST together."""
    # Threads of the side before still wait for work, in loops that cost the processor.
    time.sleep(0.02)
    calls, spent = 0, 0.0
    while spent < SHORTEST:
        calls, spent = calls + 1, spent + _once(work)
    return spent / calls


def _once(work) -> float:
    """Until the GPU, too, is done."""
    if on_gpu():
        import torch

        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        work()
        end.record()
        torch.cuda.synchronize()
        return begin.elapsed_time(end) / 1e3
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def peak(work) -> float | None:
    """MiB that two calls take at most beyond what is there before; None where that is not known."""
    gc.collect()
    with contextlib.suppress(AttributeError):  # of glibc: what is free goes back, so that the work has to take it anew
        ctypes.CDLL(None).malloc_trim(0)
    if on_gpu():
        import torch

        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    try:
        # What the kernel counts as the peak starts anew; getrusage's would hold that of the process that started this one.
        Path("/proc/self/clear_refs").write_text("5")
        resident = _resident("VmRSS")
    except OSError:
        resident = None
    of_children = _of_children()
    work()
    work()
    if on_gpu() and torch.cuda.max_memory_allocated() > before:
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    if resident is None:
        return None
    return _of_children() if _of_children() > of_children else _resident("VmHWM") - resident


def _of_children() -> float:
    """MiB of the largest process that this one started and that has ended."""
    import resource

    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**10


def _resident(key: str) -> float:
    """MiB of this process that /proc states under the key."""
    return int(re.search(rf"{key}:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) / 2**10


def machine() -> dict:
    """What the rows were measured on."""
    import torch

    try:
        processor = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())[1]
    except (OSError, TypeError):
        processor = platform.processor() or platform.machine()
    return {
        "processor": processor,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


NEEDED = {
    "onnx": ("onnxscript", "onnxruntime"),
    "openvino": ("openvino",),
    "openvino int8": ("openvino", "nncf", "onnxscript"),
    "torchmetrics": ("torchmetrics",),
}
"""Modules of what is compared that come with an extra."""


def installed(name: str) -> bool:
    """Whether all is there that NEEDED has for the name; where it is not, that is told."""
    from ..runtimes.models import EXTRAS

    for module in NEEDED.get(name, ()):
        if importlib.util.find_spec(module) is None:
            extra = EXTRAS.get(module, "benchmark")
            print_stderr(
                f"seg benchmark: {module} is not installed, the row of {name} is left out; pip install 'seg-deeplab[{extra}]'"
            )
            return False
    return True


# The networks.


def built(backbone: str, width: float):
    """The network of configs/voc_xception65.yaml with seeded weights."""
    import torch

    from ..config import ModelConfig
    from ..models.factory import build_model

    torch.manual_seed(0)
    return build_model(ModelConfig(backbone=backbone, width=width, activation_placement="tf"), CLASSES)


def our_network(backbone: str, width: float):
    """In evaluation mode on the device, in a process as `seg` has it."""
    import torch

    from ..distributed import device
    from ..memory import keep_free_memory

    keep_free_memory()
    return built(backbone, width).to(device(), memory_format=torch.channels_last).eval()


def smp_network(encoder: str):
    import segmentation_models_pytorch as library
    import torch

    from ..distributed import device

    torch.manual_seed(0)
    return library.DeepLabV3Plus(encoder, encoder_weights=None, classes=CLASSES).to(device())


def noise(*size: int):
    """uint8 array of the size, always the same."""
    import numpy as np

    return np.random.default_rng(0).integers(0, 256, size, np.uint8)


def product(n: int, k: int, m: int):
    """n x k times k x m, float32."""
    import torch

    from ..distributed import device

    torch.manual_seed(0)
    a, b, out = (torch.randn(*size, device=device()) for size in ((n, k), (k, m), (n, m)))
    return lambda: torch.mm(a, b, out=out)


def products(multiply_adds: int) -> Limit:
    """So many multiply-adds as matrix products."""
    sides = tuple(Side(f"matrix product {n}x{k}x{m}", product, (n, k, m)) for n, k, m in PRODUCTS)
    return Limit("matrix product", "GFLOP", 2e-9 * multiply_adds, sides, tuple(2e-9 * n * k * m for n, k, m in PRODUCTS))


def multiply_adds(backbone: str, width: float, side: int) -> int:
    from ..models.summary import summary

    return summary(built(backbone, width), side, side)[-1].multiply_adds


# forward: a uint8 image in, a uint8 mask out.


def our_mask(name: str, backbone: str, width: float, side: int):
    """By a runtime of `seg predict`; `eager`: by the network as it is trained."""
    from ..config import InferenceConfig
    from ..inference.predictor import Predictor
    from ..labels import VOC
    from ..runtimes.models import in_runtime

    model, image = our_network(backbone, width), noise(side, side, 3)
    predictor = Predictor(in_runtime(model, name) if name != "eager" else model, VOC, InferenceConfig(canvas=side))
    return lambda: predictor.predict(image)


def our_int8_mask(backbone: str, width: float, side: int):
    """By OpenVINO's graph, quantized as `seg export --int8` does, on noise: which values it sees changes no time."""
    from ..models.fold import folded
    from ..runtimes.export import ExportWrapper, converted, fine_convolutions, quantized, runner

    image, model = noise(side, side, 3), our_network(backbone, width)
    graph = converted(ExportWrapper(folded(model).cpu(), side), "openvino")
    run = runner(quantized(graph, "openvino", [image], fine_convolutions(model)), "openvino")
    return lambda: run(image[None])[0]


def smp_mask(encoder: str, side: int):
    import torch

    from ..distributed import device

    model, image, here = smp_network(encoder).eval(), noise(side, side, 3), device()
    mean, std = (torch.tensor(v, device=here).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))

    @torch.inference_mode()
    def work():
        x = torch.from_numpy(image).to(here).permute(2, 0, 1)[None] / 255
        return model((x - mean) / std).argmax(1)[0].byte().cpu().numpy()

    return work


def forward(backbone="xception65", width=1.0, side=513, encoder="tu-xception65", peer_side=512) -> list[Case]:
    peer = Side(f"smp DeepLabV3Plus {encoder}, {peer_side}x{peer_side}", smp_mask, (encoder, peer_side))
    limit = products(multiply_adds(backbone, width, side))
    network = backbone, width, side
    ours = {name: Side("ours", our_mask, (name, *network)) for name in ("eager", "torch", "onnx", "openvino")}
    ours["openvino int8"] = Side("ours", our_int8_mask, network)
    return [Case("forward", f"{side}x{side}, {name}", one, peer, limit) for name, one in ours.items() if installed(name)]


# train-step: one update of the weights.


def our_step(backbone: str, width: float, side: int, batch: int):
    import numpy as np
    import torch

    from ..config import TrainConfig
    from ..data.loader import Batch
    from ..distributed import device
    from ..training.losses import Loss
    from ..training.step import Step

    config = TrainConfig(batch_size=batch)
    loss = Loss(config, np.ones((1, CLASSES))).to(device())
    with contextlib.redirect_stderr(io.StringIO()):  # that so few images are too few for batch norm
        step = Step(our_network(backbone, width), loss, config, device())
    images, masks = torch.from_numpy(noise(batch, side, side, 3)), torch.from_numpy(noise(batch, side, side) % CLASSES)
    crops = Batch(images.permute(0, 3, 1, 2), masks, torch.tensor([[side, 0, side]] * batch))
    iterations = itertools.count()
    return lambda: step(next(iterations), crops)


def smp_step(encoder: str, side: int, batch: int):
    import torch
    import torch.nn.functional as F

    from ..distributed import device

    model = smp_network(encoder).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.007, momentum=0.9, weight_decay=4e-5)  # as ours
    images = torch.from_numpy(noise(batch, 3, side, side)).to(device()) / 127.5 - 1
    masks = torch.from_numpy(noise(batch, side, side) % CLASSES).long().to(device())

    def work():
        optimizer.zero_grad()
        F.cross_entropy(model(images), masks, ignore_index=255).backward()
        optimizer.step()

    return work


def train_step(backbone="xception65", width=1.0, side=321, batch=2, encoder="tu-xception65", peer_side=320) -> list[Case]:
    peer = Side(f"smp DeepLabV3Plus {encoder}, {peer_side}x{peer_side}", smp_step, (encoder, peer_side, batch))
    # The gradients of the input and of the weights are as many operations each as the output.
    limit = products(3 * batch * multiply_adds(backbone, width, side))
    ours = Side("ours", our_step, (backbone, width, side, batch))
    return [Case("train-step", f"batch {batch}, {side}x{side}, float32", ours, peer, limit)]


# loss: forward and backward pass, from logits at stride 4.


def logits_and_target(batch: int, side: int):
    import torch

    from ..distributed import device

    torch.manual_seed(0)
    small = (side - 1) // 4 + 1
    logits = torch.randn(batch, CLASSES, small, small, device=device(), requires_grad=True)
    target = torch.from_numpy(noise(batch, side, side) % CLASSES).to(device())
    target[:, : side // 20] = 255
    return logits, target


def our_loss(batch: int, side: int):
    import torch

    from ..training.losses import cross_entropy

    logits, target = logits_and_target(batch, side)
    return lambda: torch.autograd.grad(cross_entropy(logits, target), logits)


def plain_loss(batch: int, side: int):
    import torch
    import torch.nn.functional as F

    logits, target = logits_and_target(batch, side)
    target = target.long()

    def work():
        full = F.interpolate(logits, size=target.shape[1:], mode="bilinear", align_corners=True)
        return torch.autograd.grad(F.cross_entropy(full, target, ignore_index=255), logits)

    return work


def loss(batch=8, side=513) -> list[Case]:
    peer = Side("interpolate + cross_entropy", plain_loss, (batch, side))
    ours = Side("ours", our_loss, (batch, side))
    return [Case("loss", f"batch {batch}, {CLASSES} classes, {side}x{side}", ours, peer)]


# loader: files in, augmented crops out, one thread.


def write_images(root, train=16, val=8, size=SIZE) -> None:
    from ..data.prepare.scenes import write_scenes

    write_scenes(root, train=train, val=val, size=size)


def images_of(root: str):
    """The validation split under the root; of a folder of scenes in their labels."""
    from ..data.voc import open_split
    from ..labels import load

    labels = Path(root) / "labels.yaml"
    return open_split(root, "val", load(labels if labels.is_file() else "voc"))


def one_thread() -> None:
    import cv2

    cv2.setNumThreads(0)


def our_crops(root: str, crop: int, count: int):
    from ..config import DataConfig
    from ..data.loader import EpochSampler, TrainingSamples, batches
    from ..memory import keep_free_memory

    keep_free_memory()  # as in training
    one_thread()
    split = images_of(root)
    samples = TrainingSamples(split, DataConfig(crop_size=crop, num_workers=0), EpochSampler(len(split), 0), 0)
    return lambda: [None for _ in batches(samples, 1, 0, count, workers=0)]


def plain_crops(root: str, crop: int, count: int):
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # as in data.augment
    import albumentations
    import cv2
    import numpy as np
    from PIL import Image

    one_thread()
    split = images_of(root)
    pipeline = albumentations.Compose(
        [
            albumentations.RandomScale((-0.5, 1.0), p=1),
            albumentations.PadIfNeeded(crop, crop, border_mode=cv2.BORDER_CONSTANT, fill=127, fill_mask=255),
            albumentations.RandomCrop(crop, crop),
            albumentations.HorizontalFlip(),
            albumentations.Normalize(),
        ],
        seed=0,
    )

    def work():
        for number in range(count):
            index = number % len(split)
            image = np.asarray(Image.open(split.images[index]).convert("RGB"))
            pipeline(image=image, mask=np.asarray(Image.open(split.masks[index])))

    return work


def decoding(root: str, count: int):
    import numpy as np
    from PIL import Image

    split = images_of(root)

    def work():
        for number in range(count):
            index = number % len(split)
            np.asarray(Image.open(split.images[index])), np.asarray(Image.open(split.masks[index]))

    return work


def loader(root: str, crop=513, count=60) -> list[Case]:
    peer = Side("albumentations", plain_crops, (root, crop, count), count)
    decode = Side("decoding", decoding, (root, count), count)
    limit = Limit("decoding JPEG and PNG", "images", 1, (decode,), (1,))
    ours = Side("ours", our_crops, (root, crop, count), count)
    return [Case("loader", f"crop {crop}, one thread", ours, peer, limit)]


# evaluation: confusion matrices, and all of it beside the network.


def mask_pairs(root: str):
    """Truth and prediction of each image, uint8: the truth, and itself a little to the side."""
    import numpy as np

    split = images_of(root)
    truths = [split.mask(index) for index in range(len(split))]
    return [(truth, np.roll(np.where(truth == 255, 0, truth), 5, 1)) for truth in truths], len(split.labels)


def our_matrix(root: str):
    from ..evaluation.metrics import confusion_matrix

    pairs, classes = mask_pairs(root)
    return lambda: [confusion_matrix(truth, prediction, classes) for truth, prediction in pairs]


def numpy_matrix(root: str):
    import numpy as np

    pairs, classes = mask_pairs(root)

    def matrix(truth, prediction):
        keep = truth != 255
        return np.bincount(truth[keep].astype(int) * classes + prediction[keep], minlength=classes**2)

    return lambda: [matrix(*pair) for pair in pairs]


def torchmetrics_matrix(root: str):
    import torch
    from torchmetrics.classification import MulticlassConfusionMatrix

    pairs, classes = mask_pairs(root)
    pairs = [[torch.from_numpy(mask).long() for mask in pair] for pair in pairs]
    metric = MulticlassConfusionMatrix(classes, ignore_index=255)

    def work():
        for truth, prediction in pairs:
            metric.update(prediction, truth)
        return metric.confmat.numpy()

    return work


def copying(root: str):
    import numpy as np

    pairs, _ = mask_pairs(root)
    room = np.empty(max(truth.size for truth, _ in pairs), np.uint8)

    def work():
        for pair in pairs:
            for mask in pair:
                np.copyto(room[: mask.size], mask.ravel())

    return work


def some(root: str, images: int):
    """The first images of the split."""
    from dataclasses import replace

    split = images_of(root)
    return replace(split, ids=split.ids[:images], images=split.images[:images], masks=split.masks[:images])


def evaluating(root: str, images: int, canvas: int, scales: tuple, flip: bool, backbone: str, width: float):
    """The network in the runtime of `seg evaluate`, and the evaluation by it."""
    from ..config import InferenceConfig
    from ..evaluation.evaluator import evaluate_model
    from ..inference.predictor import Predictor
    from ..labels import VOC
    from ..runtimes.models import in_runtime

    model, split = in_runtime(our_network(backbone, width), "torch"), some(root, images)
    predictor = Predictor(model, VOC, InferenceConfig(None, list(scales), flip, canvas))
    return model, lambda: evaluate_model(predictor, split)


def whole_evaluation(*arguments):
    return evaluating(*arguments)[1]


def forward_passes(*arguments):
    """Those of the evaluation once more, on the same inputs."""
    import torch

    model, evaluate = evaluating(*arguments)
    logits, inputs = model.logits, []

    def noted(images):
        inputs.append(images)
        return logits(images)

    model.logits = noted
    evaluate()

    @torch.inference_mode()
    def work():
        for images in inputs:
            logits(images)

    return work


def evaluation(root: str, images=3, canvas=513, backbone="xception65", width=1.0) -> list[Case]:
    pairs, _ = mask_pairs(root)
    count, gigabytes = len(pairs), 1e-9 * sum(truth.size + prediction.size for truth, prediction in pairs)
    copies = Side("copying", copying, (root,), count)
    limit = Limit("copying both masks", "GB", gigabytes / count, (copies,), (gigabytes / count,))
    ours = Side("ours", our_matrix, (root,), count)
    peers = [Side("numpy bincount", numpy_matrix, (root,), count)]
    if installed("torchmetrics"):
        peers.append(Side("torchmetrics", torchmetrics_matrix, (root,), count))
    cases = [Case("evaluation", "confusion matrix of a mask", ours, peer, limit) for peer in peers]
    for name, count, scales, flip in (
        (f"an image of {images}", images, (1.0,), False),
        ("one image, two scales and flip", 1, (0.5, 1.0), True),
    ):
        arguments = root, count, canvas, scales, flip, backbone, width
        whole = Side("ours", whole_evaluation, arguments, count)
        cases.append(Case("evaluation", name, whole, Side("its forward passes alone", forward_passes, arguments, count)))
    return cases


# start-up: from the command to its answer.


def command(code: int, *arguments: str):
    """Python with these arguments, which ends with the exit code."""

    def work():
        ended = subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        if ended.returncode != code:
            raise RuntimeError(f"python {' '.join(arguments)} ended with {ended.returncode}: {ended.stderr}")

    return work


def start_up(module="torch") -> list[Case]:
    peer = Side(f"import {module}", command, (0, "-c", f"import {module}"))
    limit = Limit("Python alone", "starts", 1, (Side("python", command, (0, "-c", "pass")),), (1,))
    return [
        Case("start-up", f"seg {' '.join(words)}", Side("ours", command, (code, "-m", "seg", *words)), peer, limit)
        for code, words in ((0, ["--help"]), (2, ["train", "--resum"]))
    ]


SECTIONS = {
    "forward": forward,
    "train-step": train_step,
    "loss": loss,
    "loader": loader,
    "evaluation": evaluation,
    "start-up": start_up,
}
READING = ("loader", "evaluation")
"""Sections that read images: they are given the folder."""
