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
NEEDED = 60.0
"""Seconds that must be left for a backend to be opened."""
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
    network = Inception(("pool3", "logits")).eval().to(bench.device)
    x = torch.randn(min(count, 128), 3, 299, 299, device=bench.device)
    bench.run(
        "inception",
        f"network alone on {len(x)} images, NCHW, not folded (the peers')",
        functools.partial(_forward, network, x),
        amount=FLOP * len(x),
        of="float32",
    )
    of_card = [("split", "float32", "float32"), ("torch", "tf32", "TF32"), ("torch", "bfloat16", "bfloat16")]
    chosen = [("torch", "float32", "float32"), *(of_card if bench.on_card else [])]
    # The choice of auto, which tries all of them, comes last.
    for backend, precision, of in [*chosen, ("auto", "float32", "float32")]:
        if bench.lines.left > NEEDED:
            work = functools.partial(_features, bench, images, weights, backend, precision, of)
            bench.lines.attempt("inception", work)


def whole_job(bench: Bench) -> None:
    """From two folders of PNG files to scores, and decoding alone, which bounds it."""
    count, side = (2000, 128) if bench.on_card else (40, 32)
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
    from evalsvc.builtin.language_models.attention import use_fused_kernel
    from evalsvc.builtin.language_models.scorer import TokenScorer

    layers, count, longest = (LAYERS, 400, 1024) if bench.on_card else (2, 4, 64)
    torch.manual_seed(0)
    network = transformers.LlamaForCausalLM(transformers.LlamaConfig(**SMOLLM2, num_hidden_layers=layers)).eval()
    random = np.random.default_rng(0)
    documents = [random.integers(0, 49152, int(n)).tolist() for n in random.integers(32, longest, count)]
    tokens, parameters = sum(map(len, documents)), sum(each.numel() for each in network.parameters())
    for name in ("float32", "bfloat16"):
        network = network.to(bench.device, getattr(torch, name))
        use_fused_kernel(network, bench.device)
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


def _features(bench: Bench, images: Images, weights: Path, backend: str, precision: Any, of: str) -> None:
    extractor = InceptionV3(weights, device=bench.device, backend=backend, precision=precision)
    took = f", which took {extractor.backend.name}" if backend == "auto" else ""
    what = f"{len(images)} images of 64 x 64 from the host, {backend}, {precision}{took}"
    work = functools.partial(validation.extract, extractor, images)
    bench.run("inception", what, work, amount=FLOP * len(images), of=of)


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
    network.set_attn_implementation("sdpa")
    found = []
    for document in documents:
        ids = torch.tensor([[0, *document]], device=network.device)
        logits = network(input_ids=ids).logits[0, :-1].float()
        found.append(float(torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="sum")))
    return found
