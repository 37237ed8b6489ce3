import os

# One thread a process: the tests' networks are small, and threads that wait for each other on a shared machine cost
# a hundred times what they save. Read when torch is imported, which is after this, and by the processes that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest

pytest_plugins = ["tests.helpers.browser"]


def pytest_collection_modifyitems(config, items):
    """Mark the tests that open a browser. Leave out those that need a GPU, unless -m asks for them."""
    for item in items:
        if "browser" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.browser)
    if "gpu" not in config.option.markexpr:
        left_out = [item for item in items if item.get_closest_marker("gpu")]
        items[:] = [item for item in items if not item.get_closest_marker("gpu")]
        config.hook.pytest_deselected(items=left_out)
