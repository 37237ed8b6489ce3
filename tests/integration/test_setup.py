"""What installation promises: one OpenCV, an instant import, packages as declared."""

import base64
import hashlib
import importlib.metadata
import subprocess
import sys
from pathlib import Path

import cv2


def test_the_imported_opencv_is_wholly_the_one_of_opencv_python():
    # albumentations brings opencv-python-headless, which owns the same files: a mixture may crash anywhere.
    distribution = importlib.metadata.distribution("opencv-python")
    assert importlib.metadata.version("opencv-python-headless")
    owned = [file for file in distribution.files if file.parts[0] == "cv2" and file.hash and file.suffix in (".py", ".so")]
    assert Path(cv2.__file__).resolve() in {Path(file.locate()).resolve() for file in owned}
    for file in owned:
        digest = hashlib.new(file.hash.mode, file.locate().read_bytes()).digest()
        assert base64.urlsafe_b64encode(digest).rstrip(b"=").decode() == file.hash.value, file


def modules_after(statement: str) -> set[str]:
    code = f"import sys\n{statement}\nprint(*sys.modules)"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


def test_importing_seg_and_its_command_does_not_wait_for_torch():
    assert not {"torch", "numpy", "rich"} & modules_after("import seg.cli.main")


def test_only_smp_models_import_segmentation_models_pytorch():
    loaded = modules_after("import seg.training.trainer, seg.inference.images")
    assert "torch" in loaded
    assert not {"segmentation_models_pytorch", "albumentations", "timm", "torchvision"} & loaded
