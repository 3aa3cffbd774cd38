"""Against ``transformers serve``, a real server in a process of its own; its start costs the most of this file."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
import torch

from evalsvc.builtin.generators.causal_lm import CausalLM
from evalsvc.builtin.generators.openai_compatible import openai_compatible
from evalsvc.core.errors import ModelError, detail_of
from evalsvc.inputs.checkpoints import Checkpoint
from evalsvc.inputs.decoding_options import Decoding
from evalsvc.inputs.endpoints import Endpoint
from evalsvc.plugins.interfaces import Likelihood
from evalsvc.plugins.items import Message
from evalsvc.plugins.samples import SampleRequest
from tests.evalsvc.language_models import save, tokenizer

CPU = torch.device("cpu")
PROMPTS = ("Anne had not wanted", "this visit to Uppercross", "The ")
TEMPLATE = (
    "{% for m in messages %}[{{ m.role }}] {{ m.content }} {% endfor %}{{ '[assistant]' if add_generation_prompt }}"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = save(tmp_path_factory.mktemp("served"), "llama")
    coder = tokenizer()
    coder.chat_template = TEMPLATE
    coder.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def endpoint(folder):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [Path(sys.executable).with_name("transformers"), "serve", folder, "--device", "cpu", "--dtype", "float32"]
    quiet = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    process = subprocess.Popen(
        [*command, "--port", str(port)],
        env=os.environ | quiet,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    while process.poll() is None:
        try:
            httpx.get(f"http://localhost:{port}/health", trust_env=False)
            break
        except httpx.ConnectError:
            time.sleep(0.1)
    else:
        pytest.fail(process.stderr.read().decode())
    process.stderr.close()
    yield Endpoint(url=f"http://localhost:{port}/v1", model=str(folder), dialect="transformers", parallel=1)
    process.kill()
    process.wait()


@pytest.fixture
def served(endpoint, tmp_path, home):
    (tmp_path / "endpoint.json").write_text(endpoint.model_dump_json())
    opened = Checkpoint.open(tmp_path / "endpoint.json", "served", 1)
    return lambda **options: openai_compatible(opened, CPU, decoding=Decoding(**options))


def texts(generator, prompts=PROMPTS, seed=1):
    return generator.sample(SampleRequest.of(seed, 0, len(prompts), prompts=prompts))


@pytest.mark.parametrize("chat", [False, True])
def test_greedy_texts_are_those_of_causal_lm_on_the_same_folder(served, folder, chat):
    options = {"temperature": 0, "max_tokens": 12, "chat": chat, "system": "brief" if chat else ""}
    # The server begins a text as the tokenizer does, here without <s>.
    own = CausalLM(
        Checkpoint.open(folder, "tiny", 1), CPU, decoding=Decoding(prompts=PROMPTS, **options), prefix="none"
    )
    drawn = texts(served(**options))
    expected = texts(own)
    assert drawn.samples.items == getattr(expected, "samples", expected).items
    assert drawn.usage.tokens.tolist() == [12] * 3
    assert len(set(drawn.samples.items)) == 3


def test_conversations_and_stop_strings_reach_the_server(served):
    turns = (Message("system", "brief"), Message("user", "Anne"), Message("assistant", "had"), Message("user", "not"))
    whole = texts(served(temperature=0, max_tokens=12), (turns,)).samples.items[0]
    stop = whole[4:6]
    assert texts(served(temperature=0, max_tokens=12, stop=(stop,)), (turns,)).samples.items == (
        whole.partition(stop)[0],
    )


def test_samples_are_sampled_and_top_k_counts(served, folder):
    first, again, other = (texts(served(max_tokens=12), seed=seed).samples.items for seed in (1, 1, 2))
    greedy = texts(served(temperature=0, max_tokens=12)).samples.items
    assert first == again
    assert first != other
    assert greedy not in (first, other)
    assert texts(served(top_k=1, max_tokens=12), seed=5).samples.items == greedy


def test_likelihoods_are_computed_where_they_are_served(served):
    assert not isinstance(served(), Likelihood)


def test_what_the_server_says_of_a_refusal_is_for_the_operator(endpoint):
    other = endpoint.model_copy(update={"model": "other"})
    with pytest.raises(ModelError, match="^the server of model 'other' refused the request$") as caught:
        other.write("hi", Decoding(), 1)
    assert "requested 'other'" in detail_of(caught.value)
