import logging
import sys

import huggingface_hub
import pytest
import segmentation_models_pytorch as smp
import timm

from seg.config import ModelConfig
from seg.errors import UserError
from seg.extras import EXTRAS, import_extra, pip_command
from seg.models.factory import build_model
from seg.weights import hub
from seg.weights.timm import download
from tests.helpers.packaging import required
from tests.helpers.toy import refused


def test_every_optional_module_is_in_its_extra():
    for module, extra in EXTRAS.items():
        assert module.replace("_", "-") in required(extra), (module, extra)
        if required(extra) <= required("dev"):  # the loggers' services are tested with stand-ins
            assert import_extra(module)


def test_libraries_send_no_telemetry():
    import_extra("openvino"), import_extra("nncf")
    assert not [name for name in sys.modules if name.startswith("openvino_telemetry.")]


def test_a_missing_module_gives_the_command_that_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with refused("onnxruntime cannot be imported", "pip install 'seg-deeplab[onnx]'"):
        import_extra("onnxruntime")
    assert pip_command("fastapi") == "pip install 'seg-deeplab[serve]'"


def test_a_failed_download_says_nothing_but_our_line(monkeypatch):
    logger = logging.getLogger("huggingface_hub.utils._http")  # it warns of each attempt
    loud = []

    def offline(*arguments, **options):
        loud.append(logger.isEnabledFor(logging.WARNING))
        raise OSError("Name or service not known")

    before = huggingface_hub.utils.logging.get_verbosity()
    assert logger.isEnabledFor(logging.WARNING)
    monkeypatch.setattr(timm, "create_model", offline)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", offline)
    monkeypatch.setattr(smp.encoders, "get_preprocessing_params", lambda *_: {"mean": [0.5] * 3, "std": [0.5] * 3})
    monkeypatch.setattr(smp.Unet, "__init__", offline)
    for fetch in (
        lambda: download("xception41.tf_in1k"),
        lambda: hub.download("hf:me/net"),
        lambda: build_model(ModelConfig(smp="Unet", backbone="resnet18", weights="imagenet"), 3),
    ):
        with pytest.raises(UserError, match="Name or service not known"):
            fetch()
    assert loud == [False] * 3
    assert huggingface_hub.utils.logging.get_verbosity() == before
