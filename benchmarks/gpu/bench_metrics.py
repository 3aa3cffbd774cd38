"""The card's own rates, and metrics at the sizes of papers beside code in the style of their peers."""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from benchmarks.gpu.precision import allowed
from benchmarks.gpu.timing import Bench
from evalsvc.metrics import factorizations, functional
from evalsvc.metrics.moments import Moments

SUBSETS, SUBSET = 100, 1000


def rates(bench: Bench) -> None:
    """Matrix products and copies, which all shares are of."""
    n, device = (8192 if bench.on_card else 256), bench.device
    for name, dtype in (
        ("float32", torch.float32),
        ("TF32", torch.float32),
        ("bfloat16", torch.bfloat16),
        ("float64", torch.float64),
    ):
        a = torch.randn(n, n, device=device).to(dtype)
        product = functools.partial(_with_tensor_cores if name == "TF32" else torch.mm, a, a)
        bench.run("rates", f"product of {n} x {n}, {name}", product, amount=2 * n**3, keep=name, repeats=5)
    a = torch.empty(2**28 if bench.on_card else 2**16, device=device)
    b, bytes_ = torch.empty_like(a), 4 * a.numel()
    bench.run(
        "rates", "copy on the device", lambda: b.copy_(a), amount=2 * bytes_, unit="B/s", keep="memory", repeats=5
    )
    host = torch.empty(a.numel() // 4)
    piece = a[: len(host)]
    places = {"pageable": host} | ({"pinned": torch.empty_like(host).pin_memory()} if bench.on_card else {})
    for name, rows in places.items():
        up, down = functools.partial(piece.copy_, rows), functools.partial(rows.copy_, piece)
        bench.run("rates", f"to the device, {name}", up, amount=bytes_ / 4, unit="B/s", keep=f"upload, {name}")
        bench.run("rates", f"to the host, {name}", down, amount=bytes_ / 4, unit="B/s")


def metrics(bench: Bench, n: int, d: int = 2048) -> None:
    """Metrics over ``n`` rows against as many, with their errors."""
    random = torch.Generator(bench.device).manual_seed(0)
    x = torch.randn(n, d, device=bench.device, generator=random).abs_()
    y = torch.randn(n, d, device=bench.device, generator=random).abs_().mul_(1.05)
    size, subset = f"{n:,} x {d:,}", min(SUBSET, n // 4)
    pairs = 2 * d * (n * n / 2 + n * n / 2 + n * n)
    run = functools.partial(bench.run, f"metrics {n:,}")
    run(
        f"FID with its errors, {size}",
        lambda: functional.frechet_distance(x, y),
        peer=("value alone, in the style of torchmetrics", lambda: _fid(x, y)),
    )
    run(
        "KID of 100 subsets with its error",
        lambda: functional.kernel_distance(x, y, subsets=SUBSETS, subset_size=subset),
        peer=("in the style of torch-fidelity, in float64", lambda: _kid(x, y, subset)),
    )
    run(
        "precision and recall with their errors",
        lambda: functional.precision_recall(x, y),
        amount=pairs,
        of="float32",
        needs=15,
        peer=("by cdist, in the style of torch-fidelity", lambda: _precision_recall(x, y)),
    )
    run("precision, recall, density, coverage", lambda: functional.prdc(x, y), amount=pairs, of="float32", needs=15)
    run(
        "moments",
        lambda: Moments.of(x),
        amount=2 * n * d * d,
        of="float64",
        peer=("sums of batches of 250, in the style of torchmetrics", lambda: _sums(x)),
    )
    all_pairs = functools.partial(functional.kernel_distance, x, y, subsets=None)
    run("KID of all pairs with its error", all_pairs, amount=pairs, of="float32", needs=15)
    run("Vendi score with its error", lambda: functional.vendi_score(x), needs=15)
    run("MIND of 1,000 directions with its error", lambda: functional.mind(x, y), needs=15)
    few = min(n, 5000)
    run(f"MAUVE of {few:,} rows", lambda: functional.mauve(x[:few], y[:few], seeds=1), needs=20)


def factorized(bench: Bench) -> None:
    """Where factorizations in double precision are faster: the measurement that evaluations choose by."""

    def measured() -> str:
        found = factorizations.measure(bench.device)
        return "; ".join(f"{name} {s['device']:.3g} s, on the host {s['host']:.3g} s" for name, s in found.items())

    bench.lines.check("factorizations", "double precision, 768 columns", measured, needs=5)


def _with_tensor_cores(a: Tensor, b: Tensor) -> Tensor:
    with allowed():
        return a @ b


def _sums(x: Tensor) -> tuple[Tensor, Tensor]:
    """The update of torchmetrics' FID: sums of features and of their outer products in double precision."""
    total, outer = x.new_zeros(x.shape[1]).double(), x.new_zeros(x.shape[1], x.shape[1]).double()
    for batch in x.split(250):
        wide = batch.double()
        total += wide.sum(0)
        outer += wide.t().mm(wide)
    return total, outer


def _fid(x: Tensor, y: Tensor) -> float:
    """The compute of torchmetrics' FID: eigenvalues of the product of both covariances."""
    sides = []
    for rows in (x, y):
        total, outer = _sums(rows)
        mean = total / len(rows)
        sides.append((mean, (outer - len(rows) * torch.outer(mean, mean)) / (len(rows) - 1)))
    (m, s), (k, t) = sides
    root = torch.linalg.eigvals(s @ t).sqrt().real.sum()
    return float((m - k).square().sum() + s.trace() + t.trace() - 2 * root)


def _kid(x: Tensor, y: Tensor, size: int) -> list[float]:
    """torch-fidelity's subsets, each of three products in double precision."""
    random, found = torch.Generator().manual_seed(2020), []
    for _ in range(SUBSETS):
        a, b = (rows[torch.randperm(len(rows), generator=random)[:size]].double() for rows in (x, y))
        aa, bb, ab = ((p @ q.t() / p.shape[1] + 1) ** 3 for p, q in ((a, a), (b, b), (a, b)))
        inner = (aa.sum() - aa.trace() + bb.sum() - bb.trace()) / (size * (size - 1))
        found.append(float(inner - 2 * ab.mean()))
    return found


def _precision_recall(x: Tensor, y: Tensor, k: int = 3, rows: int = 10_000) -> tuple[float, float]:
    """torch-fidelity's distances: whole blocks by cdist, the k-th smallest, and comparisons with all radii."""

    def radii(z: Tensor) -> Tensor:
        parts = (torch.cat([torch.cdist(a, b) for b in z.split(rows)], 1) for a in z.split(rows))
        return torch.cat([part.kthvalue(k + 1, 1).values for part in parts])

    def inside(a: Tensor, b: Tensor, reach: Tensor) -> float:
        blocks = zip(b.split(rows), reach.split(rows), strict=True)
        covered = torch.zeros(len(a), dtype=torch.bool, device=a.device)
        for part, radius in blocks:
            covered |= torch.cat([(torch.cdist(s, part) <= radius).any(1) for s in a.split(rows)])
        return float(covered.double().mean())

    return inside(x, y, radii(y)), inside(y, x, radii(x))
