"""Runtimes: engines that run a network, and exported models of `seg export`."""

RUNTIMES = ("torch", "compile", "onnx", "openvino")
"""torch: PyTorch with batch norm folded. compile: the same through torch.compile, which first takes about a minute."""
EXPORTED_SUFFIXES = (".onnx", ".xml")
"""Of exported models: ONNX, and OpenVINO, whose weights are in a .bin file beside the .xml."""
