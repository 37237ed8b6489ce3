import threading
from contextlib import contextmanager

import pytest
import uvicorn

from seg.config import Config
from seg.inference.predictor import Predictor
from seg.labels import VOC
from seg.serve import app as serving
from seg.serve import server
from seg.weights.file import Metadata
from tests.helpers.toy import Reader


@pytest.fixture
def service():
    """A service with a model whose predictions are known; see `Reader`."""
    return reading(VOC)


def reading(labels):
    """A service of a `Reader` of these classes."""
    config = Config()
    config.evaluate.canvas = None
    return serving.Service(Predictor.of(Reader(len(labels)), Metadata(config, labels, {})), "reader")


@contextmanager
def started(service):
    """The address of a service that runs in a thread."""
    with server.listen("127.0.0.1", 0) as opened:
        made = uvicorn.Server(server.configuration(serving.make_app(service), quiet=True))
        thread = threading.Thread(target=made.run, kwargs={"sockets": [opened]})
        thread.start()
        try:
            yield server.address(opened)
        finally:
            made.should_exit = True
            thread.join(20)
            service.thread.shutdown()


@pytest.fixture
def address(service):
    with started(service) as found:
        yield found
