"""Whether a classifier finds the class that a sample was asked to be of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from evalsvc.builtin.scorers.inner_extractor import InnerExtractor
from evalsvc.builtin.scorers.rows import Failed, NotApplicable, score_rows
from evalsvc.metrics.lazy_torch import torch
from evalsvc.metrics.registry import Quantity
from evalsvc.metrics.score import Direction
from evalsvc.plugins.items import ItemBatch, Scored
from evalsvc.plugins.registry import Plugins, open_to_clients, versioned
from evalsvc.plugins.samples import Samples
from evalsvc.plugins.scorers import ScorerInfo

TOP = 5


@open_to_clients("extractor", "output")
@versioned("1")
class LabelAccuracy:
    """The plug-in ``label-accuracy``: the label of an item against the logits of an extractor.

    ``extractor`` is an extractor whose ``output`` has one logit for each class, with ``options``; class i of the suite
    is logit i. Returned are 1 or 0 for the largest logit and for the five largest (not applicable to fewer than six
    classes), and the class with the largest logit, of which :func:`evalsvc.metrics.confusion.confusion_matrix` makes
    the table of confusions. Equal logits rank by class. A label without a logit fails.
    """

    quantities = (
        Quantity("label_accuracy", Direction.HIGHER, "share", 0.0, 1.0, title="Label accuracy", title_zh="标签准确率"),
        Quantity(
            "label_accuracy_top5",
            Direction.HIGHER,
            "share",
            0.0,
            1.0,
            title="Label accuracy, top 5",
            title_zh="标签准确率（前五）",
        ),
        Quantity("predicted_label", Direction.NEUTRAL, "class", 0.0, title="Predicted label", title_zh="预测标签"),
    )

    def __init__(
        self,
        device: torch.device,
        *,
        extractor: str,
        output: str = "logits",
        options: Mapping[str, Any] | None = None,
        plugins: Plugins | None = None,
    ) -> None:
        self._inner = InnerExtractor.build("label-accuracy", extractor, output, options, device, plugins)
        inner = self._inner.extractor.info
        self.info = ScorerInfo(
            "label-accuracy", inner.takes, self.quantities, frozenset({"label"}), inner.weights, self._inner.facts
        )

    def score(self, samples: Samples, items: ItemBatch) -> Scored:
        """Top 1, top 5 and the predicted class of each sample."""
        labels = [-1] * len(samples) if items.labels is None else items.labels.tolist()
        logits = torch.from_numpy(self._inner.rows(samples))

        def judge(row: int) -> Sequence[float]:
            label, classes = labels[row], logits.shape[1]
            if label < 0:
                raise NotApplicable("the item has no label")
            if label >= classes:
                raise Failed(f"the label {label} is not one of the {classes} classes of the extractor")
            best = logits[row].argsort(descending=True, stable=True)[:TOP].tolist()
            among = float(label in best) if classes > TOP else float("nan")
            return [float(label == best[0]), among, float(best[0])]

        return score_rows(self.info, len(samples), judge)
