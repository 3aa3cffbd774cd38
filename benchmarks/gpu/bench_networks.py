"""Inception in its layouts, a whole job from PNG files to scores, and likelihoods of a language model."""

from __future__ import annotations

import functools
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks.gpu import networks
from benchmarks.gpu.timing import Bench
from evalsvc.builtin.extractors.inception import InceptionV3
from evalsvc.builtin.extractors.inception_network import Inception
from evalsvc.core.settings import Settings
from evalsvc.evaluation.context import EvaluationContext
from evalsvc.evaluation.planning import plan
from evalsvc.evaluation.runner import evaluate
from evalsvc.inputs.checkpoints import Checkpoint
from evalsvc.inputs.images.files import ImageFiles
from evalsvc.inputs.references import add_reference
from evalsvc.inputs.suites import load_suite
from evalsvc.metrics.full_precision import full_precision
from evalsvc.plugins import validation
from evalsvc.plugins.registry import Plugins
from evalsvc.plugins.samples import Images

FLOP = 11.42e9
"""Of one forward pass of Inception at 299 x 299."""
SMOLLM2 = {
    **{"vocab_size": 49152, "hidden_size": 576, "intermediate_size": 1536, "num_attention_heads": 9},
    **{"num_key_value_heads": 3, "tie_word_embeddings": True, "max_position_embeddings": 2048},
}
LAYERS = 30
SUITE = """
name: gpu-bench
version: 1
modality: image
reference: real
samples: {count}
shard: {shard}
extractors:
  inception: {{use: inception-v3, options: {{weights: {weights}}}}}
metrics:
  - {{metric: frechet_distance, features: inception/pool3}}
  - {{metric: kernel_distance, features: inception/pool3, options: {{subset_size: {subset}}}}}
  - {{metric: precision_recall, features: inception/pool3}}
"""


def inception(bench: Bench) -> None:
    """Features of images of the host by the extractor, and the network alone in its layouts."""
    count = 512 if bench.on_card else 2
    random = torch.Generator().manual_seed(0)
    images = Images(torch.randint(0, 256, (count, 3, 64, 64), dtype=torch.uint8, generator=random))
    weights = networks.inception(bench.folder)
    run = functools.partial(bench.run, "inception", amount=FLOP * count, of="float32")
    for backend in ("auto", "torch"):
        extractor = InceptionV3(weights, device=bench.device, backend=backend)
        name = f"{count} images of 64 x 64 from the host, {backend}" + (
            f" took {extractor.backend.name}" if backend == "auto" else ""
        )
        run(name, lambda extractor=extractor: validation.extract(extractor, images), needs=20)
    network = Inception(("pool3", "logits")).eval().to(bench.device)
    x = torch.randn(min(count, 128), 3, 299, 299, device=bench.device)
    alone = functools.partial(bench.run, "inception", amount=FLOP * len(x))
    for name, dtype, layout, of in (
        ("NCHW, as published (the peers')", torch.float32, torch.contiguous_format, "float32"),
        ("channels_last", torch.float32, torch.channels_last, "float32"),
        ("channels_last, bfloat16", torch.bfloat16, torch.channels_last, "bfloat16"),
    ):
        moved, rows = network.to(dtype).to(memory_format=layout), x.to(dtype).contiguous(memory_format=layout)
        alone(f"network alone, {name}", functools.partial(_forward, moved, rows), of=of, needs=15)
        network = moved.float()


def whole_job(bench: Bench) -> None:
    """From two folders of PNG files to scores, and decoding alone, which bounds it."""
    count, side = (4000, 256) if bench.on_card else (40, 32)
    for name, seed in (("made_1", 1), ("real", 2)):
        _png_files(bench.folder / name, count, side, seed)
    suite = bench.folder / "suite.yaml"
    weights = networks.inception(bench.folder)
    suite.write_text(SUITE.format(count=count, shard=count // 2, weights=weights, subset=min(1000, count // 4)))

    def decode() -> None:
        files = ImageFiles(bench.folder / "made_1")
        for first in range(0, count, 250):
            files.read(first, min(first + 250, count))

    run = functools.partial(bench.run, "whole job", amount=count, unit="images/s", repeats=1)
    run(f"decoding {count:,} PNG of {side} x {side}", decode, keep="decoding", needs=30)
    context = EvaluationContext(Settings(home=bench.folder / "home"), Plugins(), str(bench.device))
    add_reference(context.database, context.plugins, "real", bench.folder / "real", None)
    made = Checkpoint.open(bench.folder / "made_1", "made", 1)
    spec = plan(context, made, "samples", {}, load_suite(str(suite)))
    # The first call extracts the reference's features too, and chooses a backend.
    job = functools.partial(evaluate, spec, context, rerun=True)
    run(f"{count:,} PNG of {side} x {side} to FID, KID, P and R", job, of="decoding", needs=60)
    context.database.engine.dispose()


def language(bench: Bench) -> None:
    """Likelihoods by a network of SmolLM2's shape with random weights, beside one document at a time."""
    import transformers

    from evalsvc.builtin.demo.train_text import byte_tokenizer
    from evalsvc.builtin.language_models.scorer import TokenScorer

    layers, count, longest = (LAYERS, 400, 1024) if bench.on_card else (2, 4, 64)
    torch.manual_seed(0)
    network = transformers.LlamaForCausalLM(transformers.LlamaConfig(**SMOLLM2, num_hidden_layers=layers)).eval()
    random = np.random.default_rng(0)
    documents = [random.integers(0, 49152, int(n)).tolist() for n in random.integers(32, longest, count)]
    tokens, parameters = sum(map(len, documents)), sum(each.numel() for each in network.parameters())
    for name in ("float32", "bfloat16"):
        network = network.to(bench.device, getattr(torch, name))
        facts: dict[str, Any] = {"name": "llama", "context": 2048, "dtype": name, "tokenizer_digest": "0" * 16}
        facts |= {"device": bench.device, "network": network, "prefix": lambda *_: [0]}
        facts |= {"encode": lambda _texts: documents, "tokenizer": byte_tokenizer()}
        model = SimpleNamespace(**facts)
        scorer = TokenScorer(model)  # type: ignore[arg-type]
        alone = functools.partial(_one_by_one, network, documents)
        bench.run(
            "language",
            f"likelihoods of {tokens:,} tokens, {parameters / 1e6:.0f} M parameters, {name}",
            functools.partial(scorer.score, [""] * count),
            amount=2 * parameters * tokens,
            of=name,
            needs=40,
            peer=("one by one, in the style of lm-evaluation-harness", alone),
        )


def _forward(network: torch.nn.Module, x: torch.Tensor) -> Any:
    with full_precision():
        return network(x)


def _png_files(folder: Path, count: int, side: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    folder.mkdir(exist_ok=True)
    for i in range(count):
        coarse = random.integers(0, 256, (side // 8, side // 8, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((side, side), Image.Resampling.BILINEAR).save(folder / f"{i:05d}.png")


def _one_by_one(network: Any, documents: list[list[int]]) -> list[float]:
    found = []
    for document in documents:
        ids = torch.tensor([[0, *document]], device=network.device)
        logits = network(input_ids=ids).logits[0, :-1].float()
        found.append(float(torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="sum")))
    return found
