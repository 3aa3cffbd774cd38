"""Class-conditional normalizing flow: the flow of :mod:`evalsvc.builtin.demo.flow`, whose couplings see the label."""

from __future__ import annotations

import torch

from evalsvc.builtin.demo.digits import CLASSES, PIXELS, SIDE, gray, levels_of
from evalsvc.builtin.demo.flow import FlowModel
from evalsvc.builtin.demo.networks import loaded, one_hot_labels
from evalsvc.inputs.checkpoints import Checkpoint
from evalsvc.plugins.interfaces import GeneratorInfo, NegativeLogLikelihood
from evalsvc.plugins.registry import open_to_clients, versioned
from evalsvc.plugins.samples import Images, SampleRequest, Samples


def conditional_flow_model() -> FlowModel:
    """The network, untrained."""
    return FlowModel(CLASSES)


@versioned("0.1.0")
@open_to_clients()
class ConditionalFlow:
    """The plug-in ``conditional-flow``: digits of the class that is asked for. Uses float64, as ``flow`` does."""

    info = GeneratorInfo("flow", "image", (1, SIDE, SIDE), takes=frozenset({"label"}), needs=frozenset({"label"}))

    def __init__(self, checkpoint: Checkpoint, device: torch.device) -> None:
        self.model = loaded(conditional_flow_model(), checkpoint, device).double()

    def sample(self, request: SampleRequest) -> Images:
        """Map standard normals through the inverse flow of each label."""
        request = request.with_float64()
        return Images(gray(self.model.levels(request.normal(PIXELS).double(), one_hot_labels(request).double())))

    def nll(self, items: Samples, request: SampleRequest) -> NegativeLogLikelihood:
        """Negative log-density of gray 8 x 8 images given their labels: an upper bound in expectation."""
        request = request.with_float64()
        levels, u = levels_of(items).to(request.device), request.uniform(PIXELS).double()
        return NegativeLogLikelihood(
            self.model.nats(levels, u, one_hot_labels(request).double()), PIXELS, "upper_bound"
        )
