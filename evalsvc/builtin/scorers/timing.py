"""Latency and cost of a sample."""

from __future__ import annotations

from evalsvc.metrics.lazy_torch import torch
from evalsvc.metrics.registry import Quantity
from evalsvc.metrics.score import Direction
from evalsvc.plugins.items import ItemBatch, Scored
from evalsvc.plugins.registry import open_to_clients, versioned
from evalsvc.plugins.samples import Samples
from evalsvc.plugins.scorers import ScorerInfo


@open_to_clients("setup")
@versioned("1")
class Timing:
    """The plug-in ``timing``: ``seconds``, ``tokens_per_second`` and ``price`` in US dollars, as the generator drew it.

    The seconds of an endpoint are those of the request that was answered, at the concurrency of its file; the seconds
    of a model on this machine are the batch's over its size: throughput, not latency. They depend on hardware, batch
    size and load, which a plug-in cannot know when it is read on another machine. ``setup`` names them in the protocol
    (``one H100, idle``), so that suites with different setups are never compared; within one suite, run checkpoints on
    one kind of device, which the provenance of each evaluation records. The values are those of the samples that are
    stored, and are not measured again.
    """

    quantities = (
        Quantity("seconds", Direction.LOWER, "s", 0.0, title="Seconds a sample", title_zh="每样本秒数"),
        Quantity(
            "tokens_per_second", Direction.HIGHER, "tokens/s", 0.0, title="Tokens a second", title_zh="每秒词元数"
        ),
        Quantity("price", Direction.LOWER, "USD", 0.0, title="Price a sample", title_zh="每样本价格"),
    )

    def __init__(self, device: torch.device, *, setup: str = "") -> None:
        self.info = ScorerInfo(
            "timing",
            frozenset({"text", "image", "audio", "video"}),
            self.quantities,
            frozenset({"usage"}),
            facts={"setup": setup},
        )

    def score(self, samples: Samples, items: ItemBatch) -> Scored:
        """The known costs of each sample; NaN is unknown."""
        assert items.usage
        seconds, tokens, price = (
            each.cpu().double() for each in (items.usage.seconds, items.usage.tokens, items.usage.price)
        )
        rate = torch.where(seconds > 0, tokens / seconds, torch.nan)
        values = {"seconds": seconds, "tokens_per_second": rate, "price": price}
        unknown = torch.stack(list(values.values())).isnan().all(0)
        return Scored(values, dict.fromkeys(unknown.nonzero().flatten().tolist(), "the cost of this sample is unknown"))
