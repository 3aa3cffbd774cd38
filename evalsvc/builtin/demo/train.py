"""Train the demo's models and write their weights: ``python -m evalsvc.builtin.demo.train [--out DIR] [name ...]``.

Training is seeded and single-threaded, so that the same machine writes the same bytes.
"""

from __future__ import annotations

import argparse
import copy
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from evalsvc.builtin.demo import BY_CLASS, LOST, WEIGHTS, WITHOUT
from evalsvc.builtin.demo.autoregressive import NADE
from evalsvc.builtin.demo.conditional_flow import conditional_flow_model
from evalsvc.builtin.demo.conditional_gan import LATENT as CONDITIONAL_GAN_LATENT
from evalsvc.builtin.demo.conditional_gan import ConditionalDiscriminator, ConditionalGeneratorNet
from evalsvc.builtin.demo.ddpm import STEPS as NOISE_STEPS
from evalsvc.builtin.demo.ddpm import DDPMModel
from evalsvc.builtin.demo.digits import CLASSES, PIXELS, DigitSet, levels_of, signed, splits
from evalsvc.builtin.demo.flow import FlowModel
from evalsvc.builtin.demo.gan import LATENT as GAN_LATENT
from evalsvc.builtin.demo.gan import Discriminator, GeneratorNet
from evalsvc.builtin.demo.networks import log_prob_of_levels
from evalsvc.builtin.demo.vae import LATENT as VAE_LATENT
from evalsvc.builtin.demo.vae import VAEModel
from evalsvc.builtin.extractors.digits_cnn import Classifier
from evalsvc.plugins.samples import Images

BATCH = 64
CLASSIFIER_STEPS = 600
STEPS: dict[str, tuple[int, ...]] = {
    "gan": (0, 250, 500, 1000, 2000, 4000),
    "vae": (0, 100, 250, 500, 1000, 3000),
    "flow": (0, 500, 1000, 1500, 2000, 4000),
    "ddpm": (0, 100, 500, 1000, 2000, 4000),
    "autoregressive": (0, 100, 250, 500, 1000, 2000),
    "conditional-gan": (1000, 2000, 4000),
    "conditional-flow": (500, 1000, 4000),
    f"conditional-gan{WITHOUT}": (4000,),
}


def train(name: str, out: Path, steps: Sequence[int]) -> list[Path]:
    """Train one model and write its weights after each of the given steps; return the files."""
    threads, written = torch.get_num_threads(), []
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            for step, model in enumerate(RECIPES[name](splits()[0])):
                if step in steps:
                    written.append(_save(model, name, step, out))
                if step == max(steps):
                    break
    finally:
        torch.set_num_threads(threads)
    return written


def _save(model: nn.Module, name: str, step: int, out: Path) -> Path:
    if name == "classifier":
        path, dtype = out / "digits_cnn.safetensors", torch.float32
    else:
        # Half precision halves the size in the wheel; loading converts back.
        folder = out / BY_CLASS if name.startswith("conditional") else out
        path, dtype = folder / name / f"step_{step}.safetensors", torch.float16
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {key: value.to(dtype).contiguous() for key, value in model.state_dict().items()}
    # Only one key, because safetensors writes several in an order that differs between runs.
    save_file(state, path, metadata={"checkpoint": f"{name}@{step}"})
    return path


class Average:
    """Exponential moving average of a model's weights, which are the shipped weights."""

    def __init__(self, model: nn.Module, decay: float = 0.995) -> None:
        self.model = copy.deepcopy(model).requires_grad_(False)
        self._source, self._decay, self._count = model, decay, 0

    def update(self) -> nn.Module:
        """Update the average with the current weights."""
        self._count += 1
        decay = min(self._decay, self._count / (self._count + 9))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.model.parameters()), list(self._source.parameters()), 1 - decay)
        return self.model


def descend(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """One optimization step."""
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()


def _levels(data: DigitSet) -> Tensor:
    return levels_of(Images(data.pixels))


def _one_hot(data: DigitSet) -> Tensor:
    return F.one_hot(torch.from_numpy(data.labels), CLASSES).float()


def _batch(rows: Tensor, size: int = BATCH) -> Tensor:
    return rows[torch.randint(len(rows), (size,))]


# --- recipes: each yields the model before the first step, and after each step ---


def classifier(data: DigitSet) -> Iterator[nn.Module]:
    """Cross-entropy on noisy digits, shifted by up to one pixel."""
    model = Classifier()
    average = Average(model)
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3, weight_decay=0.05, fused=True)
    images, labels = signed(_levels(data)).view(-1, 1, 8, 8), torch.from_numpy(data.labels)
    while True:
        yield average.model
        rows = torch.randint(len(images), (BATCH,))
        across, down = torch.randint(3, (2,)).tolist()
        moved = F.pad(images[rows], (1, 1, 1, 1), value=-1.0)[:, :, down : down + 8, across : across + 8]
        _, logits = model(moved + 0.1 * torch.randn_like(moved))
        descend(optimizer, F.cross_entropy(logits, labels[rows]))
        average.update()


def gan(data: DigitSet) -> Iterator[nn.Module]:
    """Non-saturating GAN loss. Noise on its inputs keeps the discriminator from dominating."""
    noise = 0.25
    generator, discriminator = GeneratorNet(), Discriminator()
    average = Average(generator)
    down = torch.optim.Adam(generator.parameters(), 3e-4, betas=(0.5, 0.99), fused=True)
    up = torch.optim.Adam(discriminator.parameters(), 6e-4, betas=(0.5, 0.99), fused=True)
    pixels = signed(_levels(data))
    while True:
        yield average.model
        real = _batch(pixels)
        real = real + noise * torch.randn_like(real)
        fake = generator(torch.randn(BATCH, GAN_LATENT))
        fake = fake + noise * torch.randn_like(fake)
        of_real, of_fake = discriminator(torch.cat([real, fake.detach()])).chunk(2)
        descend(up, F.softplus(-of_real).mean() + F.softplus(of_fake).mean())
        discriminator.requires_grad_(False)
        descend(down, F.softplus(-discriminator(fake)).mean())
        discriminator.requires_grad_(True)
        average.update()


def vae(data: DigitSet) -> Iterator[nn.Module]:
    """Negative ELBO."""
    model = VAEModel()
    average = Average(model)
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3, weight_decay=0.05, fused=True)
    levels = _levels(data)
    while True:
        yield average.model
        descend(optimizer, model.bound(_batch(levels), torch.randn(BATCH, VAE_LATENT)).mean())
        average.update()


def flow(data: DigitSet) -> Iterator[nn.Module]:
    """Density of digits, with new dequantization noise in each step."""
    levels = _levels(data)
    model = FlowModel()
    model.marginals.count(levels)
    average = Average(model)
    optimizer = torch.optim.AdamW(model.parameters(), 3e-4, weight_decay=0.05, fused=True)
    # With a constant rate most is learned within the first hundreds of steps; a warm-up spreads it over all steps.
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1e-3, 1.0, total_iters=STEPS["flow"][-1])
    while True:
        yield average.model
        descend(optimizer, model.nats(_batch(levels), torch.rand(BATCH, PIXELS)).mean())
        schedule.step()
        average.update()


def ddpm(data: DigitSet) -> Iterator[nn.Module]:
    """Squared error at every noise step with equal weights, and the variance of the last step by its likelihood."""
    batch, rate = 128, 3e-3
    rows = _levels(data)
    model = DDPMModel()
    model.measure(rows)
    average = Average(model)
    optimizer = torch.optim.AdamW(model.parameters(), rate, weight_decay=0.01, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, STEPS["ddpm"][-1] + 1, pct_start=0.05)
    while True:
        yield average.model
        levels = _batch(rows, batch)
        t = ((torch.arange(batch) + torch.rand(batch)) * NOISE_STEPS / batch).long() + 1
        alpha, sigma = model.schedule(t)
        x = signed(levels)
        terms = model.terms(t)
        standard, guess = model.linear(alpha * x + sigma * torch.randn_like(x), terms)
        correction = model(standard, terms)
        last = t == 1
        clean = (guess + terms.error * correction)[last].detach()
        width = -log_prob_of_levels(levels[last], clean, model.log_scale).mean()
        descend(optimizer, (correction - (x - guess) / terms.error).square().mean() + width)
        schedule.step()
        average.update()


def autoregressive(data: DigitSet) -> Iterator[nn.Module]:
    """Exact likelihood."""
    model = NADE()
    average = Average(model)
    optimizer = torch.optim.AdamW(model.parameters(), 1.5e-3, weight_decay=0.1, fused=True)
    levels = _levels(data)
    while True:
        yield average.model
        descend(optimizer, model.nats(_batch(levels)).mean())
        average.update()


def conditional_gan(data: DigitSet) -> Iterator[nn.Module]:
    """As :func:`gan`, with the label of a real image as that of its fake."""
    noise = 0.25
    generator, discriminator = ConditionalGeneratorNet(), ConditionalDiscriminator()
    average = Average(generator)
    down = torch.optim.Adam(generator.parameters(), 3e-4, betas=(0.5, 0.99), fused=True)
    up = torch.optim.Adam(discriminator.parameters(), 6e-4, betas=(0.5, 0.99), fused=True)
    pixels, labels = signed(_levels(data)), _one_hot(data)
    while True:
        yield average.model
        rows = torch.randint(len(pixels), (BATCH,))
        real, y = pixels[rows], labels[rows]
        real = real + noise * torch.randn_like(real)
        fake = generator(torch.randn(BATCH, CONDITIONAL_GAN_LATENT), y)
        fake = fake + noise * torch.randn_like(fake)
        of_real, of_fake = discriminator(torch.cat([real, fake.detach()]), torch.cat([y, y])).chunk(2)
        descend(up, F.softplus(-of_real).mean() + F.softplus(of_fake).mean())
        discriminator.requires_grad_(False)
        descend(down, F.softplus(-discriminator(fake, y)).mean())
        discriminator.requires_grad_(True)
        average.update()


def conditional_gan_without_a_class(data: DigitSet) -> Iterator[nn.Module]:
    """:func:`conditional_gan` on data that lost :data:`LOST`, as if a loader had skipped the folder of a class."""
    there = data.labels != LOST
    return conditional_gan(DigitSet(data.pixels[there], data.labels[there]))


def conditional_flow(data: DigitSet) -> Iterator[nn.Module]:
    """As :func:`flow`, given the label, at a constant rate."""
    levels, labels = _levels(data), _one_hot(data)
    model = conditional_flow_model()
    model.marginals.count(levels)
    average = Average(model)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3, weight_decay=0.05, fused=True)
    while True:
        yield average.model
        rows = torch.randint(len(levels), (BATCH,))
        descend(optimizer, model.nats(levels[rows], torch.rand(BATCH, PIXELS), labels[rows]).mean())
        average.update()


RECIPES: dict[str, Callable[[DigitSet], Iterator[nn.Module]]] = {
    "classifier": classifier,
    "gan": gan,
    "vae": vae,
    "flow": flow,
    "ddpm": ddpm,
    "autoregressive": autoregressive,
    "conditional-gan": conditional_gan,
    "conditional-flow": conditional_flow,
    f"conditional-gan{WITHOUT}": conditional_gan_without_a_class,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Train the named models, or all."""
    parser = argparse.ArgumentParser(prog="python -m evalsvc.builtin.demo.train", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help=", ".join(RECIPES))
    parser.add_argument("--out", type=Path, default=WEIGHTS, help="folder to write to (default: %(default)s)")
    options = parser.parse_args(arguments)
    for name in options.names:
        if name not in RECIPES:
            parser.error(f"there is no model {name!r}; available are {', '.join(RECIPES)}")
    for name in options.names or RECIPES:
        for path in train(name, options.out, STEPS.get(name, (CLASSIFIER_STEPS,))):
            print(path, file=sys.stderr)  # noqa: T201


if __name__ == "__main__":
    main()
