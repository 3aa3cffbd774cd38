"""A language model behind an HTTP endpoint: ``endpoint:NAME`` of the server file, or a JSON file with url and model.

The model is identified by its name only, because its weights cannot be verified: give another model another name.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from evalsvc.core.errors import InputError
from evalsvc.inputs.checkpoints import Checkpoint
from evalsvc.inputs.decoding_options import OPTIONS, Decoding
from evalsvc.inputs.endpoint_requests import RefusedError
from evalsvc.inputs.endpoints import Endpoint
from evalsvc.inputs.paid_endpoint import PaidEndpoint
from evalsvc.inputs.server_file import open_endpoint
from evalsvc.plugins.interfaces import GeneratorInfo, NegativeLogLikelihood
from evalsvc.plugins.items import Drawn, Usage
from evalsvc.plugins.registry import open_to_clients, versioned
from evalsvc.plugins.samples import SampleRequest, Samples, Texts

WHO = "generator 'openai-compatible'"


class Served:
    """Generates texts with an endpoint. Each sample's seed is sent, but the server may ignore it.

    A prompt that the server refuses, or answers without a text, is a failure of its sample. Everything else that goes
    wrong (no response, a wrong key) is an error, after which no answer that was paid is asked for again.
    """

    def __init__(self, endpoint: Endpoint, decoding: Decoding) -> None:
        self._endpoint, self._decoding = endpoint, decoding
        self._paid = PaidEndpoint(endpoint)
        self.info = GeneratorInfo(
            "openai-compatible",
            "text",
            weights="unverifiable: served by name",
            takes=frozenset({"prompt"}),
            models=frozenset({endpoint.model}),
        )

    def sample(self, request: SampleRequest) -> Drawn:
        """One text per seed, with failures and costs.

        Raises:
            RefusedError: the server refused the first prompts, all of them.
        """
        prompts = request.prompts or tuple(self._decoding.prompt_of(int(i)) for i in request.indices)
        written = self._paid.write(zip(prompts, request.seeds.tolist(), strict=True), self._decoding)
        failures = {row: each.failure for row, each in enumerate(written) if each.failure}
        columns = {
            name: torch.tensor([getattr(each, name) for each in written], dtype=torch.float64)
            for name in ("seconds", "tokens", "price")
        }
        return Drawn(Texts(tuple(each.text for each in written)), failures, Usage(**columns))

    def receipt(self) -> Callable[[], None]:
        """A function that deletes the paid answers that were kept since the last receipt."""
        return self._paid.receipt()


class ServedWithLikelihood(Served):
    """A server that also returns the log-probabilities of prompts."""

    def nll(self, items: Samples, request: SampleRequest) -> NegativeLogLikelihood:
        """Exact over the tokens that the server scores: all but the first, if it adds no beginning-of-text token.

        After a prompt, those that begin in the text.
        """
        if not isinstance(items, Texts):
            raise InputError(f"{WHO} computes likelihoods of texts only")
        prompts = request.prompts or ("",) * len(items)
        if request.prompts and (self._decoding.chat or not all(isinstance(prompt, str) for prompt in prompts)):
            raise InputError(
                f"{WHO} computes no likelihoods after chats, since endpoints render them unseen: use texts as prompts, "
                "or generator 'causal-lm'"
            )
        scored = self._endpoint.each(
            lambda pair: self._endpoint.log_likelihood(pair[0], str(pair[1])) if pair[0] else (0.0, 0),
            zip(items.items, prompts, strict=True),
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
