"""Encoder-decoders: the loss and the greedy texts of transformers, whatever is beside them in the batch."""

import pytest
import torch
from transformers import AutoModelForSeq2SeqLM

from evalsvc.builtin.generators.causal_lm import CausalLM
from evalsvc.builtin.generators.seq2seq_lm import Seq2SeqLM
from evalsvc.core.errors import InputError
from evalsvc.inputs.checkpoints import Checkpoint
from evalsvc.inputs.decoding_options import Decoding
from evalsvc.plugins.conformance import check_generator
from evalsvc.plugins.samples import SampleRequest, Texts
from tests.evalsvc.language_models import network, save, tokenizer

CPU = torch.device("cpu")
SOURCES = ("x", "The ", "Anne had not wanted this visit")
TARGETS = ("Anne had not wanted it", "", "one text")


@pytest.fixture(scope="module", params=["t5", "bart"])
def folder(request, tmp_path_factory):
    made = tmp_path_factory.mktemp("models") / request.param
    model = network(request.param)
    if request.param == "bart":
        model.generation_config.forced_bos_token_id = 0
    model.save_pretrained(made)
    coder(made)
    return made


def coder(folder):
    made = tokenizer(ends=True)
    made.save_pretrained(folder)
    return made


def opened(folder, **decoding):
    asked = Decoding(**{"max_tokens": 12} | decoding)
    return Seq2SeqLM(Checkpoint.open(folder, "tiny", 1, Seq2SeqLM.checkpoint_files), CPU, decoding=asked)


def test_the_likelihood_of_a_target_is_the_loss_of_transformers(folder):
    found = opened(folder).nll(Texts(TARGETS), SampleRequest.of(0, 0, 3, prompts=SOURCES))
    peer, split = AutoModelForSeq2SeqLM.from_pretrained(folder), coder(folder)
    for source, target, nats, units in zip(SOURCES, TARGETS, found.nats, found.units, strict=True):
        labels = split(text_target=target, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            loss = peer(**split(source, return_tensors="pt"), labels=labels).loss.double()
        assert float(nats) == pytest.approx(float(loss) * labels.shape[1], rel=1e-5)
        assert int(units) == labels.shape[1]


def test_greedy_decoding_is_that_of_transformers(folder):
    penalty = {"repetition_penalty": 1.3}
    drawn = opened(folder, temperature=0, **penalty).sample(SampleRequest.of(1, 0, 3, prompts=SOURCES))
    peer, split = AutoModelForSeq2SeqLM.from_pretrained(folder), coder(folder)
    for source, text in zip(SOURCES, drawn.samples.items, strict=True):
        made = peer.generate(**split(source, return_tensors="pt"), max_new_tokens=14, do_sample=False, **penalty)
        written = made[0, 2 if peer.config.model_type == "bart" else 1 :][:12]  # after what is forced
        assert text == split.decode(written, skip_special_tokens=True)


def test_it_keeps_the_contract_of_a_generator(folder):
    findings = check_generator(opened(folder, prompts=SOURCES), CPU)
    assert all(finding.ok for finding in findings), findings


def test_what_it_does_not_do_is_a_named_error(folder, tmp_path):
    generator = opened(folder)
    with pytest.raises(InputError, match="likelihoods of targets given their sources, not of documents: use a suite"):
        generator.nll(Texts(("a",)), SampleRequest.of(0, 0, 1))
    with pytest.raises(InputError, match="is an encoder-decoder, which generator 'causal-lm' does not read: use gen"):
        CausalLM(Checkpoint.open(folder, "tiny", 1), CPU)
    if folder.name == "bart":
        with pytest.raises(InputError, match=r"source 0 .* has 81 tokens, more than the context length of bart, 64"):
            generator.sample(SampleRequest.of(1, 0, 1, prompts=["\x01" * 80]))
        return
    with pytest.raises(InputError, match="is a decoder alone, which generator 'seq2seq-lm' does not read: use"):
        opened(save(tmp_path / "llama", "llama"))
