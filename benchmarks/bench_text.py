"""Likelihoods of texts of mixed lengths: ours, lm-evaluation-harness at two batch sizes, and Hugging Face ``evaluate``.

Lengths are lognormal, 55 words at the median, 4 to 350; words are a novel's. Values are the mean over texts of each
one's perplexity, which is what ``evaluate`` gives; ours and the harness's come from the sums that they give.
``evaluate`` fetches its metric from the hub; without a network, ``EVALUATE_PERPLEXITY`` names the folder that has it.
Its time includes loading the model, since it can do nothing without.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

WINDOW = 1024


def texts_of(count: int) -> list[str]:
    from evalsvc.builtin.demo.prose import prose_reference

    half = prose_reference().train
    words = " ".join(half.read(0, len(half)).items).split()
    rng = np.random.default_rng(3)
    lengths = np.clip(rng.lognormal(np.log(55), 0.9, count), 4, 350).astype(int)
    starts = rng.integers(0, len(words) - 400, count)
    return [" ".join(words[start : start + length]) for start, length in zip(starts, lengths, strict=True)]


def smollm2() -> dict[str, Callable[[], float]]:
    """SmolLM2-135M in float32."""
    from evalsvc.builtin.language_models.gguf import converted
    from evalsvc.inputs import published_weights

    return contenders(converted(published_weights.locate(published_weights.get("smollm2"))), texts_of(60))


def tiny() -> dict[str, Callable[[], float]]:
    """A Llama of four layers of 128 with random weights, under the 49,152 tokens of SmolLM2."""
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    from evalsvc.builtin.language_models.gguf import converted
    from evalsvc.inputs import published_weights

    folder = Path(tempfile.mkdtemp())
    tokenizer = AutoTokenizer.from_pretrained(converted(published_weights.locate(published_weights.get("smollm2"))))
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=128, intermediate_size=352, num_hidden_layers=4, num_attention_heads=4,
        max_position_embeddings=4096, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    return contenders(folder, texts_of(300))


def contenders(folder: Path, texts: list[str]) -> dict[str, Callable[[], float]]:
    os.environ |= {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
    logging.disable(logging.WARNING)
    import datasets
    import evaluate
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from evalsvc.builtin.extractors.language import LikelihoodExtractor

    datasets.disable_progress_bars()
    evaluate.logging.disable_progress_bar()
    ours = LikelihoodExtractor(str(folder), window=WINDOW)
    tokens = ours.extract(texts)["tokens"]
    metric = evaluate.load(os.environ.get("EVALUATE_PERPLEXITY", "perplexity"), module_type="metric")
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    requests = [Instance("loglikelihood_rolling", {}, (text,), number) for number, text in enumerate(texts)]

    def evalsvc() -> float:
        found = ours.extract(texts)
        return float(np.exp(found["nll"] / found["tokens"]).mean())

    def harness(batch: int) -> Callable[[], float]:
        lm = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=batch, max_length=WINDOW)
        return lambda: float(np.exp(-np.array(lm.loglikelihood_rolling(requests, disable_tqdm=True)) / tokens).mean())

    def hugging_face() -> float:
        return float(metric.compute(predictions=texts, model_id=str(folder), batch_size=16)["mean_perplexity"])

    print(f"{len(texts)} texts, {tokens.sum()} tokens")
    return {
        "evalsvc": evalsvc,
        "lm-evaluation-harness, batches of 1": harness(1),
        "lm-evaluation-harness, batches of 16": harness(16),
        "evaluate, batches of 16, with loading": hugging_face,
    }
