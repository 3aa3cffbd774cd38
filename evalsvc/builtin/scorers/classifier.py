"""Probability of a class by a classifier: toxicity, explicit images, language, emotion, refusals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal

from jaxtyping import Float
from pydantic import Field

from evalsvc.builtin.scorers.rows import Failed, NotApplicable, checked, score_rows
from evalsvc.core.errors import InputError
from evalsvc.metrics.lazy_torch import torch
from evalsvc.metrics.registry import Quantity
from evalsvc.metrics.score import Direction
from evalsvc.plugins.items import ItemBatch, Scored
from evalsvc.plugins.registry import open_to_clients, versioned
from evalsvc.plugins.samples import Samples
from evalsvc.plugins.scorers import ScorerInfo

if TYPE_CHECKING:
    from torch import Tensor

Better = Literal["higher", "lower", "neutral"]
_EMPTY = {
    "text": "the text has no tokens",
    "image": "one side of the image is over 100 times as long as the other",
    "audio": "the sound is empty",
}
"""Reasons why a sample has nothing to classify."""
LISTED = 20
"""Classes that an error lists."""


@open_to_clients("label", "threshold", "better")
@versioned("1")
class ClassifierScorer:
    """The plug-in ``classifier``: probabilities of a text, image or sound by a classifier of ``transformers``.

    ``model`` is a folder or a hub id; its configuration names the modality and the classes. ``label`` is one class or
    several: ``probability`` is the sum of their softmax probabilities, or the largest of their sigmoid probabilities
    if the configuration says ``multi_label_classification`` or has one class. ``above`` is 1 if it is at least
    ``threshold``, so that its mean is a share of samples. ``better`` is the direction of both. ``predicted_label`` is
    the place of the class with the largest probability, from 0; without ``label`` it is the only quantity.

    Inputs are prepared by the model's own tokenizer or preprocessor, and values are those of the pipelines of
    ``transformers``. A text that is longer than the model reads is divided into consecutive windows, and the
    probability of a class is the largest of its windows, because a harmful sentence counts wherever it stands.
    """

    def __init__(
        self,
        device: torch.device,
        *,
        model: str,
        label: str | Sequence[str] = (),
        threshold: float = 0.5,
        better: Better = "neutral",
    ) -> None:
        from evalsvc.builtin.classification import open_classifier

        who = "scorer 'classifier'"
        quantities = self.quantities(model=model, label=label, threshold=threshold, better=better)
        self._classifier = open_classifier(model, device, who)
        wanted, labels = _listed(label), self._classifier.labels
        if unknown := [each for each in wanted if labels.count(each) != 1]:
            raise InputError(
                f"invalid option label={unknown[0]!r:.80} of {who}: {model} has the classes {_names(labels)}"
            )
        self._wanted, self._threshold = [labels.index(each) for each in wanted], float(threshold)
        facts = {
            **self._classifier.facts,
            **({"label": ", ".join(map(repr, wanted)), "threshold": f"at least {threshold!r}"} if wanted else {}),
        }
        self.info = ScorerInfo(
            "classifier",
            frozenset({self._classifier.modality}),
            quantities,
            weights=self._classifier.weights,
            facts=facts,
        )

    @staticmethod
    def quantities(
        *, model: str = "", label: str | Sequence[str] = (), threshold: float = 0.5, better: Better = "neutral"
    ) -> tuple[Quantity, ...]:
        """The predicted class; with a label, its probability and whether that is above the threshold.

        Raises:
            InputError: an option has a wrong type or value.
        """
        checked("classifier", "model", model, str)
        checked("classifier", "label", label, str | list[str] | tuple[str, ...])
        checked("classifier", "threshold", threshold, Annotated[float, Field(ge=0, le=1)])
        checked("classifier", "better", better, Better)
        direction = Direction(better)
        predicted = Quantity(
            "predicted_label", Direction.NEUTRAL, "class", 0.0, title="Predicted label", title_zh="预测标签"
        )
        if not _listed(label):
            return (predicted,)
        return (
            Quantity("probability", direction, "probability", 0.0, 1.0, title="Probability", title_zh="概率"),
            Quantity("above", direction, "share", 0.0, 1.0, title="Above the threshold", title_zh="超过阈值"),
            predicted,
        )

    def score(self, samples: Samples, items: ItemBatch) -> Scored:
        """Probability, whether it is above the threshold, and the predicted class, of each sample."""
        found = self._classifier.probabilities(samples)
        return score_rows(self.info, len(samples), lambda row: self._judge(found[row]))

    def _judge(self, windows: Float[Tensor, "w c"]) -> list[float]:
        if not len(windows):
            raise NotApplicable(_EMPTY[self._classifier.modality])
        if windows.isnan().any():
            raise Failed("the classifier returned NaN")
        predicted = float(windows.amax(0).argmax())
        if not self._wanted:
            return [predicted]
        wanted = windows[:, self._wanted]
        each = wanted.sum(1) if self._classifier.exclusive else wanted.amax(1)
        probability = min(1.0, float(each.max()))
        return [probability, float(probability >= self._threshold), predicted]


def _listed(label: str | Sequence[str]) -> tuple[str, ...]:
    """Distinct names of the classes that are asked for."""
    return tuple(dict.fromkeys([label] if isinstance(label, str) else label)) if label else ()


def _names(labels: Sequence[str]) -> str:
    more = f" and {len(labels) - LISTED} more" if len(labels) > LISTED else ""
    return ", ".join(map(repr, labels[:LISTED])) + more
