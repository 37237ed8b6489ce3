"""What installation promises: one OpenCV, an instant import, packages as declared, a wheel with all its files."""

import ast
import base64
import hashlib
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import cv2
import pytest

from tests.helpers.packaging import project, required
from tests.helpers.paths import ROOT


def owned_whole(distribution) -> bool:
    """Whether the distribution's files of cv2 are those that it was published with."""
    for file in distribution.files:
        if file.parts[0] == "cv2" and file.hash and file.suffix in (".py", ".so"):
            digest = hashlib.new(file.hash.mode, file.locate().read_bytes()).digest()
            if base64.urlsafe_b64encode(digest).rstrip(b"=").decode() != file.hash.value:
                return False
    return True


def test_the_imported_opencv_is_wholly_that_of_one_distribution():
    # opencv-python, -headless and -contrib own the same files: a mixture may crash anywhere.
    names = importlib.metadata.packages_distributions()["cv2"]
    owners = [importlib.metadata.distribution(name) for name in names]
    assert any(map(owned_whole, owners)), names
    assert cv2.__version__.split(".")[0] == "5"


def modules_after(statement: str) -> set[str]:
    code = f"import sys\n{statement}\nprint(*sys.modules)"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


def test_importing_seg_and_its_command_does_not_import_torch():
    assert not {"torch", "numpy", "rich"} & modules_after("import seg.cli.main")


def test_only_smp_models_import_segmentation_models_pytorch():
    loaded = modules_after("import seg.training.trainer, seg.inference.images")
    assert "torch" in loaded
    assert not {"segmentation_models_pytorch", "albumentations", "timm", "torchvision"} & loaded


DISTRIBUTIONS = {
    "PIL": "Pillow",
    "cv2": "opencv-python-headless",
    "fastapi_offline": "fastapi-offline",
    "google_crc32c": "google-crc32c",
    "huggingface_hub": "huggingface-hub",
    "jinja2": "Jinja2",
    "pillow_heif": "pillow-heif",
    "segmentation_models_pytorch": "segmentation-models-pytorch",
    "starlette": "fastapi",
    "yaml": "PyYAML",
}
"""Distributions of modules that have another name."""
EXTRAS = ("serve", "onnx", "openvino", "heif", "benchmark")


def imports(path: Path) -> set[str]:
    """The packages that a file imports, without the project and the standard library."""
    found, todo = set(), [ast.parse(path.read_text(encoding="utf-8"))]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add(node.module.split(".")[0])
        elif not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"):
            todo += ast.iter_child_nodes(node)
    return found - {"seg"} - sys.stdlib_module_names


def test_every_imported_package_is_declared():
    declared = required().union(*map(required, EXTRAS))
    missing = {
        f"{path.relative_to(ROOT)}: {module}"
        for path in (ROOT / "seg").rglob("*.py")
        for module in imports(path)
        if DISTRIBUTIONS.get(module, module) not in declared
    }
    assert not missing


def test_messages_name_existing_distributions_and_extras():
    found = set()
    for path in (ROOT / "seg").rglob("*.py"):
        found |= set(re.findall(r"pip install '([\w-]+)\[", path.read_text(encoding="utf-8")))
    assert found == {project()["name"]}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel, built from a copy: a build leaves files in its folder."""
    place = tmp_path_factory.mktemp("wheel")
    for name in ("seg", "configs"):
        shutil.copytree(ROOT / name, place / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, place)
    build = f"from setuptools.build_meta import build_wheel; build_wheel({str(place)!r})"
    subprocess.run([sys.executable, "-c", build], cwd=place, check=True, capture_output=True)
    return next(place.glob("*.whl"))


def test_the_wheel_holds_every_file_of_the_package(wheel):
    with zipfile.ZipFile(wheel) as file:
        packed = set(file.namelist())
    wanted = {path.relative_to(ROOT).as_posix() for path in (ROOT / "seg").rglob("*") if path.is_file()}
    wanted = {name for name in wanted if "__pycache__" not in name}
    wanted |= {f"seg/configs/{path.name}" for path in (ROOT / "configs").iterdir()}
    assert wanted == {name for name in packed if name.startswith("seg/")}
    assert {name.split("/")[0] for name in packed} == {"seg", wheel.name.split("-py3")[0] + ".dist-info"}


def test_the_installed_command_starts_in_any_folder(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as file:
        file.extractall(tmp_path / "installed")
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "installed")}
    asked = [sys.executable, "-m", "seg", "--version"]
    found = subprocess.run(asked, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert found.stdout == f"seg {wheel.name.split('-')[1]}\n"
