"""Cost of samples."""

import math

import torch

from evalsvc.builtin.scorers.timing import Timing
from evalsvc.plugins.items import ItemBatch, Usage
from evalsvc.plugins.samples import Texts

CPU = torch.device("cpu")


def test_a_rate_needs_both_seconds_and_tokens_and_what_is_unknown_is_said():
    columns = [(2.0, 10.0, 0.5), (0.0, 10.0, math.nan), (2.0, math.nan, 0.0), (math.nan,) * 3]
    usage = Usage(*(torch.tensor(column, dtype=torch.float64) for column in zip(*columns, strict=True)))
    items = ItemBatch(("a", "b", "c", "d"), torch.zeros(4, dtype=torch.int64), usage=usage)
    found = Timing(CPU).score(Texts(("",) * 4), items)
    assert str(found.values["tokens_per_second"].tolist()) == "[5.0, nan, nan, nan]"
    assert str(found.values["seconds"].tolist()) == "[2.0, 0.0, 2.0, nan]"
    assert str(found.values["price"].tolist()) == "[0.5, nan, 0.0, nan]"
    assert found.reasons == {3: "the cost of this sample is unknown"}


def test_another_setup_is_another_protocol():
    assert Timing(CPU).info.protocol != Timing(CPU, setup="one H100").info.protocol
