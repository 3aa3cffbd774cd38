"""Train the demo's diffusers pipeline and write its folder: ``python -m evalsvc.builtin.demo.train_unet``.

A ``UNet2DModel`` of 8 x 8 gray digits, as the tutorials of diffusers train one; seeded and single-threaded, so that the
same machine writes the same bytes. Needs the extra ``diffusers``; about a minute.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from evalsvc.builtin.demo import PIPELINES
from evalsvc.builtin.demo.digits import SIDE, levels_of, signed, splits
from evalsvc.builtin.demo.train import descend
from evalsvc.plugins.samples import Images

NAME, STEPS = "ddpm-unet", 1500
BATCH, RATE = 128, 2e-3


def unet() -> Any:
    """Two resolutions, 8 x 8 and 4 x 4, the smaller one with attention."""
    from diffusers import UNet2DModel

    return UNet2DModel(
        sample_size=SIDE,
        in_channels=1,
        out_channels=1,
        layers_per_block=1,
        block_out_channels=(16, 32),
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        norm_num_groups=4,
        attention_head_dim=8,
    )


def noise_schedule() -> Any:
    """The cosine schedule of Nichol and Dhariwal (2021); the network predicts the velocity (Salimans and Ho, 2022)."""
    from diffusers import DDIMScheduler

    return DDIMScheduler(beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction", timestep_spacing="trailing")


def train(out: Path, steps: int = STEPS) -> Path:
    """Train for this many steps and write the pipeline with averaged weights; return its folder."""
    from diffusers import DDIMPipeline
    from diffusers.training_utils import EMAModel

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            images = signed(levels_of(Images(splits()[0].pixels))).view(-1, 1, SIDE, SIDE)
            model, noising = unet(), noise_schedule()
            average = EMAModel(model.parameters(), decay=0.995, use_ema_warmup=True, inv_gamma=1, power=0.75)
            optimizer = torch.optim.AdamW(model.parameters(), RATE, weight_decay=0.01, fused=True)
            schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, steps, pct_start=0.05)
            for _ in range(steps):
                clean = images[torch.randint(len(images), (BATCH,))]
                noise, t = torch.randn_like(clean), torch.randint(noising.config.num_train_timesteps, (BATCH,))
                velocity = model(noising.add_noise(clean, noise, t), t).sample
                descend(optimizer, F.mse_loss(velocity, noising.get_velocity(clean, noise, t)))
                schedule.step()
                average.step(model.parameters())
            average.copy_to(model.parameters())
    finally:
        torch.set_num_threads(threads)
    folder = out / NAME / f"step_{steps}"
    DDIMPipeline(model, noising).save_pretrained(folder)
    return folder


def main(arguments: Sequence[str] | None = None) -> None:
    """Train the pipeline and write it."""
    parser = argparse.ArgumentParser(prog="python -m evalsvc.builtin.demo.train_unet", description=__doc__)
    parser.add_argument("--out", type=Path, default=PIPELINES, help="folder to write to (default: %(default)s)")
    print(train(parser.parse_args(arguments).out), file=sys.stderr)  # noqa: T201


if __name__ == "__main__":
    main()
