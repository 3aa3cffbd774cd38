"""Language models on an accelerator: the texts and likelihoods of the CPU, with few waits, in float32."""

import numpy as np
import pytest
import torch

from evalsvc.builtin.extractors.language import LikelihoodExtractor
from evalsvc.builtin.generators.causal_lm import CausalLM
from evalsvc.builtin.generators.seq2seq_lm import Seq2SeqLM
from evalsvc.builtin.language_models import token_budget, writer
from evalsvc.core.errors import ModelError
from evalsvc.inputs.checkpoints import Checkpoint
from evalsvc.inputs.decoding_options import Decoding
from evalsvc.plugins.samples import SampleRequest, Texts
from tests.evalsvc.language_models import save
from tests.pretended_device import PretendedDevice, pretended

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)
PROMPTS = ("x", "The ", "Anne had not")
TEXTS = ("one text", "", "another", "a third")
SAMPLED = {"top_k": 90, "top_p": 0.95, "repetition_penalty": 1.2, "temperature": 1.3}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    made = {}

    def folder(kind):
        if kind not in made:
            made[kind] = save(tmp_path_factory.mktemp(kind), kind)
        return made[kind]

    return folder


def opened(folder, device, **decoding):
    kind = Seq2SeqLM if folder.name.startswith(("bart", "t5")) else CausalLM
    options = {} if kind is Seq2SeqLM else {"window": 16}
    asked = Decoding(**{"max_tokens": 10, "prompts": PROMPTS} | decoding)
    return kind(Checkpoint.open(folder, "tiny", 1, kind.checkpoint_files), device, decoding=asked, **options)


def of(synchronizations, name):
    """Waits by their kind, in one module."""
    return {kind: count for (kind, where), count in synchronizations.items() if name in where}


@pytest.mark.parametrize("kind", ["llama", "mamba", "rwkv", "bart"])
def test_texts_are_those_of_the_cpu_however_many_tokens_are_written_between_two_looks(folders, kind, monkeypatch):
    monkeypatch.setattr(writer, "STRIDE_ON_GPU", 4)
    request, decoding = SampleRequest.of(3, 0, 7), SAMPLED | {"stop": ("e", "1")}
    expected = opened(folders(kind), CPU, **decoding).sample(request)
    with pretended() as device:
        generator = opened(folders(kind), CUDA, **decoding)
        rows, network = [], generator._writer._model.network
        network.register_forward_pre_hook(lambda *_: rows.append(0))
        device.forget()
        drawn = generator.sample(request)
        assert of(device.synchronizations, "writer.py:")["item"] <= 4
    assert drawn.samples == expected.samples
    assert drawn.usage.tokens.tolist() == expected.usage.tokens.tolist()
    assert not device.nondeterministic
