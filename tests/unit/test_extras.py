import sys

from seg.extras import EXTRAS, import_extra, pip_command
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
