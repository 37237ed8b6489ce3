"""Section forward: from a uint8 image to a uint8 mask."""

from ..harness import Case, Side, Work
from .extras import installed
from .limits import arithmetic_limit
from .networks import multiply_adds, noise, our_network, smp_network


def our_mask(runtime: str, backbone: str, width: float, side: int) -> Work:
    """Prepare a prediction by a runtime of `seg predict`, or by the network as it is trained (`eager`)."""
    from ...config import InferenceConfig
    from ...inference.predictor import Predictor
    from ...labels import VOC
    from ...runtimes.open import in_runtime

    model, image = our_network(backbone, width), noise(side, side, 3)
    if runtime != "eager":
        model = in_runtime(model, runtime)
    predictor = Predictor(model, VOC, InferenceConfig(canvas=side))
    return lambda: predictor.predict(image)


def our_int8_mask(backbone: str, width: float, side: int) -> Work:
    """Prepare a prediction by OpenVINO, quantized as `seg export --int8` does. Calibration on noise takes the same time."""
    from ...models.fold import folded
    from ...runtimes.export import ExportWrapper, converted, runner
    from ...runtimes.quantize import fine_convolutions, quantize

    image, model = noise(side, side, 3), our_network(backbone, width)
    graph = converted(ExportWrapper(folded(model).cpu(), side), "openvino")
    run = runner(quantize(graph, "openvino", [image], fine_convolutions(model)), "openvino")
    return lambda: run(image[None])[0]


def smp_mask(encoder: str, side: int) -> Work:
    """Prepare a prediction by segmentation-models-pytorch, with ImageNet normalization."""
    import torch

    from ...distributed import device

    model, image, here = smp_network(encoder).eval(), noise(side, side, 3), device()
    mean, std = (torch.tensor(v, device=here).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))

    @torch.inference_mode()
    def work() -> object:
        x = torch.from_numpy(image).to(here).permute(2, 0, 1)[None] / 255
        return model((x - mean) / std).argmax(1)[0].byte().cpu().numpy()

    return work


def cases(
    backbone: str = "xception65",
    width: float = 1.0,
    side: int = 513,
    encoder: str = "tu-xception65",
    peer_side: int = 512,
) -> list[Case]:
    """Compare every runtime that is installed with segmentation-models-pytorch, which needs sides divisible by 16."""
    peer = Side(f"smp DeepLabV3Plus {encoder}, {peer_side}x{peer_side}", smp_mask, (encoder, peer_side))
    limit = arithmetic_limit(multiply_adds(backbone, width, side))
    network = backbone, width, side
    ours = {runtime: Side("ours", our_mask, (runtime, *network)) for runtime in ("eager", "torch", "onnx", "openvino")}
    ours["openvino int8"] = Side("ours", our_int8_mask, network)
    return [Case("forward", f"{side}x{side}, {name}", one, peer, limit) for name, one in ours.items() if installed(name)]
