"""float32 is float32, whatever was switched on before, and afterwards all is as it was found."""

import json
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch

from evalsvc.metrics.full_precision import full_precision
from evalsvc.metrics.functional import precision_recall
from evalsvc.plugins import validation
from evalsvc.plugins.interfaces import ExtractorInfo

SWITCHES = (
    "pass",
    "b.cuda.matmul.allow_tf32 = True",
    'torch.set_float32_matmul_precision("high")',
    'torch.set_float32_matmul_precision("medium")',
    "b.cudnn.allow_tf32 = False",
    "b.cudnn.deterministic = b.cudnn.benchmark = True",
    'b.fp32_precision = "tf32"',
    'b.fp32_precision = "ieee"',
    'b.cuda.matmul.fp32_precision = "tf32"',
    'b.cudnn.fp32_precision = "ieee"',
    'b.mkldnn.fp32_precision = "bf16"',
    'b.fp32_precision = "tf32"; b.cuda.matmul.fp32_precision = "ieee"',
    'b.cuda.matmul.allow_tf32 = True; b.cudnn.conv.fp32_precision = "ieee"',
)
CHILD = """
import json, os, sys, torch
import numpy as np
from evalsvc.builtin.extractors.batches import Pieces
from evalsvc.metrics.full_precision import full_precision
from evalsvc.metrics.functional import precision_recall

b = torch.backends
LEAVES = ("cuda.matmul", "cudnn.conv", "cudnn.rnn", "mkldnn.matmul", "mkldnn.conv", "mkldnn.rnn")

def told(read):
    try:
        return read()
    except RuntimeError:
        return "raises"

def state():
    found = {"all": b.fp32_precision, "cudnn": b.cudnn.fp32_precision, "mkldnn": b.mkldnn.fp32_precision}
    found |= {leaf: eval("b." + leaf).fp32_precision for leaf in LEAVES}
    old = (torch.get_float32_matmul_precision, lambda: b.cuda.matmul.allow_tf32, lambda: b.cudnn.allow_tf32)
    return {**found, "old": [told(read) for read in old], "cudnn's": [b.cudnn.benchmark, b.cudnn.deterministic]}

x = np.random.default_rng(0).standard_normal((60, 4)).astype("f")
for line in json.loads(sys.argv[1]):
    if os.fork() == 0:
        exec(line)
        before = state()
        with full_precision():
            within = state()
        precision_recall(x, x + 0.1)
        Pieces(4, "w").run(lambda rows: (rows,), torch.zeros(8, 1))
        full = {within[leaf] for leaf in LEAVES} <= {"none", "ieee"} and within["cudnn's"][0] is False
        print(json.dumps([line, before == state(), full]), flush=True)
        os._exit(0)
    os.wait()
"""


def test_every_switch_of_torch_is_off_within_and_as_it_was_found_afterwards():
    command = [sys.executable, "-c", CHILD, json.dumps(SWITCHES)]
    told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
    assert [json.loads(line) for line in told.splitlines()] == [[line, True, True] for line in SWITCHES]


@pytest.fixture
def fast():
    """A process whose user has switched on fast products, in the way that all versions of torch have."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    yield
    torch.set_float32_matmul_precision(before)


def test_the_last_of_several_holders_puts_back_what_the_first_one_found(fast):
    entered, leave = threading.Event(), threading.Event()

    def other():
        with full_precision():
            entered.set()
            leave.wait(10)

    thread = threading.Thread(target=other)
    with full_precision():
        thread.start()
        assert entered.wait(10)
    assert torch.get_float32_matmul_precision() == "highest", "the other still computes"
    leave.set()
    thread.join()
    assert torch.get_float32_matmul_precision() == "high"


def test_a_plug_in_that_switches_fast_products_on_does_so_for_itself_alone(fast):
    class Eager:
        info = ExtractorInfo("eager", "image", {"features": 2}, "none", "none")

        def extract(self, samples):
            seen.append(torch.get_float32_matmul_precision())
            torch.set_float32_matmul_precision("medium")
            return {"features": torch.zeros(3, 2)}

    seen = []
    validation.extract(Eager(), [None] * 3)
    validation.extract(Eager(), [None] * 3)
    assert seen == ["highest", "highest"]
    assert torch.get_float32_matmul_precision() == "high"


def test_metrics_of_texts_do_not_wait_for_torch():
    code = (
        "import sys; from evalsvc.metrics.ngrams import distinct_n; distinct_n(['a b', 'b c']); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0


def test_a_metric_sees_full_products_through_any_door(fast, monkeypatch):
    from evalsvc.metrics import precision_recall as module

    seen, plan = [], module._plan
    monkeypatch.setattr(
        module, "_plan", lambda *a, **o: (seen.append(torch.get_float32_matmul_precision()), plan(*a, **o))[1]
    )
    rows = np.random.default_rng(0).standard_normal((30, 2)).astype("f")
    precision_recall(rows, rows)
    assert seen == ["highest"]
