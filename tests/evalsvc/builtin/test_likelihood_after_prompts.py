"""The likelihood of a text after its prompt, on a tiny model with random weights."""

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from evalsvc.builtin.generators.causal_lm import CausalLM
from evalsvc.builtin.language_models.continuations import ContinuationEncoder
from evalsvc.builtin.language_models.model import LanguageModel
from evalsvc.core.errors import InputError
from evalsvc.inputs.checkpoints import Checkpoint
from evalsvc.inputs.decoding_options import Decoding
from evalsvc.plugins.items import Message
from evalsvc.plugins.samples import SampleRequest, Texts
from tests.evalsvc.language_models import save

CPU = torch.device("cpu")
TEMPLATE = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}{{ '[assistant]\\n' }}"
PROMPT = "Anne had not wanted this"
CHAT = (Message("system", "brief"), Message("user", "Where is Anne?"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = save(tmp_path_factory.mktemp("one"), "llama")
    coder = AutoTokenizer.from_pretrained(folder)
    coder.chat_template = TEMPLATE
    coder.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def generator(folder):
    return CausalLM(Checkpoint.open(folder, "tiny", 1), CPU, decoding=Decoding(temperature=0, max_tokens=6))


def nll(generator, prompts, texts):
    seeds = SampleRequest.of(0, 0, len(texts))
    found = generator.nll(Texts(tuple(texts)), SampleRequest(seeds.seeds, seeds.indices, CPU, tuple(prompts)))
    return found.nats.numpy(), found.units.tolist()


def by_hand(folder, tokens, scored):
    """Nats of the last ``scored`` tokens, from logits of the whole sequence in float64."""
    network = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64)
    with torch.inference_mode():
        logits = network(torch.tensor([tokens])).logits[0, :-1].log_softmax(1)
    return -sum(float(logits[i - 1, tokens[i]]) for i in range(len(tokens) - scored, len(tokens)))


def test_a_text_after_its_prompt_counts_alone_and_the_same_in_any_company(folder, generator):
    coder = AutoTokenizer.from_pretrained(folder)
    texts = [" visit", " to Uppercross", " x", "", " visit"]
    nats, tokens = nll(generator, [PROMPT, PROMPT, "Short", PROMPT, ""], texts)
    for i, prompt in enumerate([PROMPT, PROMPT, "Short"]):
        start, whole = (coder(text, add_special_tokens=False)["input_ids"] for text in (prompt, prompt + texts[i]))
        assert tokens[i] == len(whole) - len(start)
        assert nats[i] == pytest.approx(by_hand(folder, whole, tokens[i]), rel=1e-5)
    assert (nats[3], tokens[3]) == (0, 0)
    # Without a prompt it stands after the prefix, as a document does.
    assert nats[4] == pytest.approx(nll(generator, (), [" visit"])[0][0], rel=1e-6)
    alone, _ = nll(generator, [PROMPT], [texts[1]])
    assert nats[1] == pytest.approx(alone[0], rel=1e-5)


def test_spaces_that_end_a_prompt_belong_to_the_text(generator):
    moved = nll(generator, [PROMPT + "  "] * 2, ["visit", "Uppercross"])
    given = nll(generator, [PROMPT] * 2, ["  visit", "  Uppercross"])
    assert moved[1] == given[1]
    assert np.array_equal(moved[0], given[0])


def test_a_long_prompt_is_cut_on_the_left_and_a_long_text_is_refused(folder, generator):
    coder = AutoTokenizer.from_pretrained(folder)
    long = "Anne went to Uppercross. " * 12 + "Then"
    nats, (scored,) = nll(generator, [long], [" she left"])
    whole = coder(long + " she left", add_special_tokens=False)["input_ids"]
    assert len(whole) > 65
    assert nats[0] == pytest.approx(by_hand(folder, whole[-65:], scored), rel=1e-5)
    with pytest.raises(InputError, match=r"text 1 after its prompt has \d+ tokens, more than the window .* 64"):
        nll(generator, ["a", "b"], [" c", long])


def test_special_tokens_are_those_of_the_tokenizer_unless_the_prompt_spells_them(folder, tmp_path):
    from tokenizers.processors import TemplateProcessing

    coder = AutoTokenizer.from_pretrained(folder)
    coder.backend_tokenizer.post_processor = TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    coder.save_pretrained(save(tmp_path / "m", "llama"))
    model = LanguageModel.open(str(tmp_path / "m"), CPU, "float32", "a test")
    encoder = ContinuationEncoder(model, [0])
    plain, spelled, first = encoder.encode(["Anne", "<s>Anne", ""], [" x", " x", "<s>x"])
    assert plain == spelled
    assert plain.prompt[0] == 0
    assert 1 not in plain.tokens
    assert (first.prompt, len(first.text)) == ((0,), len(model.encode(["x"])[0]))


def test_a_chat_is_rendered_by_the_template_for_likelihoods_and_for_samples(folder, generator):
    rendered = "[system]brief[user]Where is Anne?[assistant]\n"
    assert np.array_equal(nll(generator, [CHAT], ["At home"])[0], nll(generator, [rendered], ["At home"])[0])
    seeds = SampleRequest.of(1, 0, 2)
    answers = generator.sample(SampleRequest(seeds.seeds, seeds.indices, CPU, (CHAT, PROMPT))).samples
    by_hand = Decoding(temperature=0, max_tokens=6, prompts=(rendered,))
    spelled = CausalLM(Checkpoint.open(folder, "tiny", 1), CPU, prefix="none", decoding=by_hand)
    assert answers.items[0] == spelled.sample(SampleRequest.of(1, 0, 1)).samples.items[0]
    assert answers.items[1] == generator.sample(SampleRequest.of(1, 0, 1, prompts=(PROMPT,))).samples.items[0]


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_a_prompt_is_read_once_for_all_of_its_texts(tmp_path, kind):
    generator = CausalLM(Checkpoint.open(save(tmp_path, kind), "tiny", 1), CPU, decoding=Decoding(max_tokens=4))
    texts = [" visit", " to Uppercross", " x", " had not"]
    prompts = [PROMPT * 2, PROMPT * 2, PROMPT, PROMPT]
    alone = [nll(generator, [prompt], [text]) for prompt, text in zip(prompts, texts, strict=True)]
    nll(generator, prompts, texts)
    read = []
    network = generator._scorer._model.network.base_model
    hook = network.register_forward_pre_hook(
        lambda _module, _args, given: read.append(given["input_ids"].numel()), with_kwargs=True
    )
    found, tokens = nll(generator, prompts, texts)
    hook.remove()
    assert found == pytest.approx([nats[0] for nats, _ in alone], rel=1e-5)
    lengths = [len(generator._scorer._model.encode([prompt])[0]) for prompt in (PROMPT, PROMPT * 2)]
    assert sum(read) <= sum(lengths) + 4 * max(tokens)
