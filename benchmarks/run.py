"""Run ours and the peers side by side and write ``benchmarks/RESULTS.md``.

``python benchmarks/run.py [SCENE ...]``: the named scenes, or all. What other scenes found stays in ``results.json``.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from race import Contenders, race

HERE = Path(__file__).parent
RESULTS, REPORT = HERE / "results.json", HERE / "RESULTS.md"


@dataclass(frozen=True)
class Scene:
    """A race: where its contenders are, what we aim at, and the work of ours in floating point operations."""

    title: str
    source: str
    target: str
    work: tuple[str, float] | None = None
    note: str = ""
    rounds: int = 5
    shares: str = ""
    """A function that gives the seconds of each stage of ours, and of ``all``."""

    def contenders(self) -> Contenders:
        factory: Callable[[], Contenders] = _find(self.source)
        return factory()


def _find(source: str) -> Callable[[], Any]:
    module, _, function = source.partition(":")
    found: Callable[[], Any] = getattr(importlib.import_module(module), function or "contenders")
    return found


N, D = 8_192, 2_048
SCENES = {
    "moments": Scene(
        "Moments of 8,192 x 2,048 float32",
        "bench_moments",
        "0.95 of numpy's speed, 7 times torchmetrics",
        ("dgemm", N * D**2),
        note="numpy.cov and ours make the same product, so their order changes from run to run (0.93 to 1.21). "
        "In updates of 32 rows ours was 6.95 to 9.75 times as fast as torchmetrics.",
    ),
    "frechet": Scene(
        "Frechet distance from moments, d = 2,048",
        "bench_frechet:from_moments",
        "4 times eigvals, 4.5 with the factor kept, 20 times sqrtm",
        ("dgemm", (1 / 3 + 4 / 3 + 4 / 3) * D**3),
        note="Of ours, 55 % is `eigvalsh`. `sqrtm` is missed by a sixteenth: SciPy 1.18 made it faster than the one "
        "of the target (18 s beside eigvals of 3.1 s).",
    ),
    "frechet-500": Scene(
        "Frechet distance of 500 rows, d = 2,048",
        "bench_frechet:few_500",
        "100 times eigvals",
        ("dgemm", 2 * 500**2 * D),
        note="Missed by a fifth. 13 ms are the product of the two sets and 13 ms `eigvalsh` of 500 x 500; the target "
        "is from a machine with AVX-512, whose products are 1.4 times as fast.",
    ),
    "frechet-2000": Scene(
        "Frechet distance of 2,000 rows, d = 2,048",
        "bench_frechet:few_2000",
        "2.5 times eigvals",
        note="The standard error needs the eigenvectors too; no peer gives one.",
    ),
    "frechet-equal": Scene("Frechet distance of 500 rows with themselves", "bench_frechet:equal_500", "never below 0"),
    "kid-2000": Scene(
        "KID, 100 x 1,000 of 2,000 rows",
        "bench_kernel:rows_2000",
        "9 times the fastest peer",
        ("sgemm", 4 * 2_000**2 * D),
    ),
    "kid-5000": Scene(
        "KID, 100 x 1,000 of 5,000 rows",
        "bench_kernel:rows_5000",
        "3.4 times the fastest peer",
        ("sgemm", 4 * 5_000**2 * D),
    ),
    "vendi": Scene(
        "Vendi score of 4,000 x 512",
        "bench_vendi",
        "25 times the peer's default",
        note="Missed by a quarter, because ours includes the standard error: the same spectrum of two halves, and "
        "a second pass over the rows. No peer gives one; the dual of the peer is the value alone.",
    ),
    "manifold": Scene(
        "Precision, recall, density and coverage of 10,000 x 2,048",
        "bench_manifold",
        "2 times torch-fidelity, 5 times prdc",
        ("sgemm", 2 * 2 * 10_000**2 * D),
        note="Missed by an eighth and a third. The products alone at the full rate of sgemm would be 4.6 times prdc "
        "and 2.4 times torch-fidelity; the target needs the bfloat16 filter of a processor with AMX. 50,000 x 50,000 "
        "(`manifold_memory.py`, one run): 142 s, 144 GF/s, at most 0.24 GB over the mapped inputs.",
    ),
    "pairs": Scene(
        "All pairs of 2 x 5,000 x 2,048: KID, precision, recall, density, coverage, authenticity, three neighbours",
        "bench_pairs",
        "every product once",
        ("sgemm", 2 * (1 + 2 / 2) * 5_000**2 * D),
        note="The peers have neither authenticity nor neighbours.",
        rounds=3,
    ),
    "self-bleu": Scene("Self-BLEU-4 of 1,000 texts", "bench_self_bleu", "3.5 times fast-bleu"),
    "self-bleu-20000": Scene("Self-BLEU-4 of 20,000 texts", "bench_self_bleu:large", "under 60 s", rounds=1),
    "mauve": Scene("MAUVE of 2 x 5,000 x 1,024", "bench_mauve", "1.3 times mauve-text"),
    "inception": Scene(
        "Inception v3, pool3 and logits of 16 images of 32 x 32",
        "bench_inception",
        "2 times torch-fidelity and 85 % of sgemm with the best backend, 1.45 times with torch",
        ("sgemm", 16 * 11.42e9),
        note="Missed by 2 to 8 %: all of sgemm would be 1.88 to 2.01 times. From run to run ours takes 1.00 to 1.02 s "
        "and the peer 1.86 to 2.04 s (1.83, 1.92 and 1.97 times), perhaps with its page faults, of 190 to 280 thousand "
        "a pass.",
        rounds=9,
    ),
    "flac": Scene(
        "40 FLAC of 10 s in stereo, 44,100 Hz", "bench_sounds:flac", "0.9 of soundfile's own loop", rounds=11
    ),
    "mp3": Scene("40 MP3 of 10 s in stereo, 44,100 Hz", "bench_sounds:mp3", "0.9 of soundfile's own loop", rounds=11),
    "wav": Scene("40 WAV of 10 s in stereo, 44,100 Hz", "bench_sounds:wav", "0.9 of soundfile's own loop", rounds=11),
    "sound-windows": Scene("Windows of 10 s of a FLAC of 400 s", "bench_sounds:windows", "0.9 of soundfile's own loop"),
    "parquet-jpeg": Scene(
        "1,500 JPEG of 224 x 224 in Parquet",
        "bench_tables:jpegs",
        "0.9 of pyarrow and Pillow in a loop",
        note="Missed in half a second: ours starts a sandboxed process that parses the file, and two that decode.",
    ),
    "parquet-jpeg-15000": Scene(
        "15,000 JPEG of 224 x 224 in Parquet", "bench_tables:jpegs_ten_times", "0.9 of pyarrow and Pillow in a loop"
    ),
    "parquet-png": Scene(
        "10,000 PNG of 32 x 32 in Parquet", "bench_tables:pngs", "0.9 of pyarrow and Pillow in a loop"
    ),
    "drift": Scene(
        "Drift: centred relative error of pool3 beside a float64 forward, 16 images of 64 x 64, mean of 5 networks",
        "bench_extract:drift",
        "no worse than torch-fidelity's own",
        note="onnxruntime is twice as exact as the peer. Mixed_6e, 7b and 7c sum their channels in two halves, which "
        "costs 1 %: with whole sums torch and OpenVINO were 8 % worse than the peer.",
        rounds=1,
    ),
    "whole-job": Scene(
        "Whole job: 96 PNG of 64 x 64 against as many, to FID, KID, IS, precision and recall",
        "bench_extract:whole_job",
        "2.1 times torch-fidelity",
        note="Ours reads the reference once more, when it is added, and gives standard errors.",
        rounds=1,
        shares="bench_extract:stages",
    ),
    "after-forward": Scene(
        "After the forward pass: 3,000 x 2,048 features to FID, KID, IS, precision and recall",
        "bench_extract:after_the_forward",
        "5 times torch-fidelity",
        note="Met for what the peer gives: 5.3 times against a known reference, that of every evaluation but the first "
        "(both keep its moments, ours its balls), and 5.0 times against a new one. With both errors of the distance, "
        "which no peer gives, 3.0 times instead of 3.5: the exact spectrum with its vectors takes as long as 6.4 "
        "products of its size (eigenvalues alone 1.5), and the coordinates of samples and rows take 3 more.",
        rounds=3,
    ),
    "after-1000": Scene(
        "After the forward pass: 1,000 x 2,048", "bench_extract:after_1000", "5 times torch-fidelity", rounds=3
    ),
    "after-10000": Scene(
        "After the forward pass: 10,000 x 2,048",
        "bench_extract:after_10000",
        "5 times torch-fidelity",
        note="Missed: 2.6 times without a standard error of the distance. KID, precision and recall share their "
        "products, which take 4.5 s at the full rate of sgemm; the peer needs 17.5 s for them. The rest is FID.",
        rounds=1,
    ),
    "resize-32": Scene(
        "TF1 resize of 16 images from 32 to 299", "bench_inception:resize", "in the noise of the forward"
    ),
    "resize-256": Scene("TF1 resize of 16 images from 256 to 299", "bench_inception:resize_256", "no slower"),
    "text-tiny": Scene(
        "Likelihoods of 300 texts of mixed lengths, a tiny Llama with 49,152 tokens",
        "bench_text:tiny",
        "1.5 times the harness at its best, 5 times evaluate",
        rounds=3,
    ),
    "text-smollm2": Scene(
        "Likelihoods of 60 texts of mixed lengths, SmolLM2-135M",
        "bench_text:smollm2",
        "no slower than the harness at its best, 5 times evaluate",
        note="evaluate is missed by a fourteenth. Ours reaches 56 % of sgemm (2 x 135M operations a token).",
        rounds=3,
    ),
    "video": Scene(
        "Decoding 50 MP4 files of 32 frames of 256 x 256 (H.264)",
        "bench_video",
        "0.9 of PyAV's own loop with the same threads",
        note="Ours starts three sandboxed processes, whose imports take most of its time; their processor seconds are "
        "not counted. Threads over whole files are faster where files are few.",
    ),
    "video-500": Scene(
        "Decoding 500 such files",
        "bench_video:ten_times",
        "0.9 of PyAV's own loop with the same threads",
        note="In processor seconds with those of the decoding processes, of 200 files: ours 3.7, PyAV's loop 4.0, and "
        "3.1 with one thread of swscale.",
        rounds=3,
    ),
    "decode": Scene(
        "Decoding 64 PNGs of 32 x 32",
        "bench_inception:decode",
        "none",
        note="evalsvc takes OpenCV 5 where it is installed, whose pixels are the same. Decoding is under 1 % of a job.",
    ),
}


def run(name: str, rounds: int | None) -> dict[str, object]:
    scene = SCENES[name]
    outcome = race(scene.contenders(), rounds or scene.rounds)
    return {
        **asdict(outcome),
        "shares": _find(scene.shares)() if scene.shares else {},
        "rounds": rounds or scene.rounds,
        "load": round(os.getloadavg()[0], 1),
        "machine": f"{platform.machine()}, {torch.get_num_threads()} of {os.cpu_count()} cores, "
        + torch.backends.cpu.get_cpu_capability(),
        "torch": version("torch"),
    }


def report(found: dict[str, dict]) -> str:
    lines = [
        "# Ours and the peers, side by side",
        "",
        "Written by `make bench`. Contenders run in turn in one process. Seconds are medians; `times ours` is the",
        "median over rounds of a contender's seconds over ours, `processor` the same of processor seconds, which a",
        "busy machine disturbs less. GF/s are of square matrix products in the same rounds.",
        "",
    ]
    for name, scene in SCENES.items():
        if name not in found:
            continue
        outcome = found[name]
        lines += [f"## {scene.title}", "", "| | seconds | times ours | processor | value |", "|---|---|---|---|---|"]
        for contender, lap in outcome["laps"].items():
            times = f"{lap['times_first']:.2f} | {lap['cpu_times_first']:.2f}"
            lines.append(f"| {contender} | {lap['seconds']:.4g} | {times} | {lap['value']:.10g} |")
        if shares := outcome.get("shares"):
            lines += ["", "| stage of ours | seconds | share |", "|---|---|---|"]
            lines += [f"| {stage} | {s:.3g} | {s / shares['all']:.1%} |" for stage, s in shares.items()]
        lines += ["", f"Target: {scene.target}."]
        rates = f"sgemm {outcome['sgemm']:.0f}, dgemm {outcome['dgemm']:.0f} GF/s"
        if scene.work:
            kind, work = scene.work
            reached = work / next(iter(outcome["laps"].values()))["seconds"] / 1e9
            rates += f"; ours reached {reached:.0f} GF/s, {reached / outcome[kind]:.0%} of {kind}"
        machine = f"{outcome['machine']}, torch {outcome['torch']}, load {outcome['load']}"
        lines += [
            f"{rates}. {machine}, {outcome['rounds']} rounds.",
            *([scene.note] if scene.note else []),
            "",
        ]
    return "\n".join(lines)


def main(names: list[str], rounds: int | None) -> int:
    """Run scenes, several in a process each: threads that libraries of one leave behind are not beside the next, and a
    crash, which the exit code tells, is that of one scene.
    """
    if len(names) > 1:
        options = ["--rounds", str(rounds)] if rounds else []
        codes = {name: subprocess.run([sys.executable, __file__, name, *options]).returncode for name in names}
        for name, code in codes.items():
            if code:
                print(f"{name} ended with exit code {code}", file=sys.stderr)
        return int(any(codes.values()))
    (name,) = names
    print(name, file=sys.stderr, flush=True)
    found = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    found[name] = run(name, rounds)
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    REPORT.write_text(report(found))
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("scenes", nargs="*", choices=[*SCENES, []], metavar="SCENE")
    parser.add_argument("--rounds", type=int, help="instead of each scene's own number")
    given = parser.parse_args()
    # Scenes of texts have peers of their own, in an environment of their own: `make bench-text`.
    scenes = given.scenes or [name for name in SCENES if not name.startswith("text-")]
    sys.exit(main(scenes, given.rounds))
