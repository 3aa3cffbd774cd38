"""A language model behind an HTTP endpoint: ``endpoint:NAME`` of the server file, or a JSON file with url and model.

The model is identified by its name only, because its weights cannot be verified: give another model another name.
"""

from __future__ import annotations

import torch

from evalsvc.core.errors import InputError
from evalsvc.inputs.checkpoints import Checkpoint
from evalsvc.inputs.decoding_options import OPTIONS, Decoding
from evalsvc.inputs.endpoints import Endpoint, RefusedError
from evalsvc.inputs.server_file import open_endpoint
from evalsvc.plugins.interfaces import GeneratorInfo, NegativeLogLikelihood
from evalsvc.plugins.registry import open_to_clients, versioned
from evalsvc.plugins.samples import SampleRequest, Samples, Texts


class Served:
    """Generates texts with an endpoint. Each sample's seed is sent, but the server may ignore it."""

    info = GeneratorInfo(
        "openai-compatible", "text", weights="unverifiable: served by name", takes=frozenset({"prompt"})
    )

    def __init__(self, endpoint: Endpoint, decoding: Decoding) -> None:
        self._endpoint, self._decoding = endpoint, decoding

    def sample(self, request: SampleRequest) -> Texts:
        """One text per seed."""
        prompts = request.prompts or tuple(self._decoding.prompt_of(int(i)) for i in request.indices)
        pairs = zip(prompts, request.seeds.tolist(), strict=True)
        texts = self._endpoint.each(lambda pair: self._endpoint.write(pair[0], self._decoding, pair[1]), pairs)
        return Texts(tuple(texts))


class ServedWithLikelihood(Served):
    """A server that also returns the log-probabilities of prompts."""

    def nll(self, items: Samples, request: SampleRequest) -> NegativeLogLikelihood:
        """Exact over the tokens that the server scores: all but the first, if it adds no beginning-of-text token."""
        if not isinstance(items, Texts):
            raise InputError("generator 'openai-compatible' computes likelihoods of texts only")
        scored = self._endpoint.each(
            lambda text: self._endpoint.log_likelihood(text) if text else (0.0, 0), items.items
        )
        nats = torch.tensor([-value for value, _ in scored], dtype=torch.float64)
        tokens = torch.tensor([count for _, count in scored])
        facts = {"window": "the server's", "prefix": "the server's", "tokenizer": self._endpoint.model}
        return NegativeLogLikelihood(nats, tokens, "exact", facts)


@versioned("0.1.0")
@open_to_clients(*OPTIONS, network=True)
def openai_compatible(checkpoint: Checkpoint, device: torch.device, *, decoding: Decoding | None = None) -> Served:
    """The plug-in ``openai-compatible``; with likelihoods if a test request returns them."""
    endpoint = open_endpoint(checkpoint.path)
    try:
        endpoint.log_likelihood("one two three")
    except RefusedError:
        return Served(endpoint, decoding or Decoding())
    return ServedWithLikelihood(endpoint, decoding or Decoding())
