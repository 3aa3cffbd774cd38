import logging
import os
import random
import sys
import threading

import jaxtyping
import numpy as np
import pytest
import torch
from hypothesis import settings

from tests.shapes import checker, unchecked

# Before anything imports them.
jaxtyping.install_import_hook("evalsvc.metrics", f"{checker.__module__}.{checker.__name__}")

# A busy machine breaks deadlines, and CI must not find on one day what it missed on another: it tries fixed examples.
settings.register_profile("here", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "here")


def pytest_collection_finish():
    """The handler of absl, which openvino imports, would close the stderr of the collection when logs are set up."""
    if "absl.logging" in sys.modules:
        sys.modules["absl.logging"].get_absl_handler().python_handler.setStream(sys.__stderr__)


@pytest.fixture(autouse=True)
def same_chance():
    """What draws from a generator of the process, ours or a peer, draws the same whatever ran before."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def one_thread():
    """Small problems are slower on two threads, much slower on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def logging_as_it_was():
    """Commands that stay send every record to standard error, and set hooks for what nobody catches."""
    root, hooks = logging.getLogger(), (sys.excepthook, threading.excepthook)
    handlers, level = list(root.handlers), root.level
    yield
    if (sys.excepthook, threading.excepthook) != hooks:
        logging.captureWarnings(False)
        root.handlers[:], (sys.excepthook, threading.excepthook) = handlers, hooks
        root.setLevel(level)


@pytest.fixture
def shapes_unchecked():
    """As outside the tests: what does not fit reaches the function, whose own words are tested."""
    with unchecked():
        yield
