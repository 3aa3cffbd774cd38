"""Tiny pipelines of ``diffusers`` with random weights, saved as people save theirs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import diffusers
import torch


def unet2d(seed: int = 0, classes: int | None = None) -> Any:
    """8 x 8 pixels of gray."""
    torch.manual_seed(seed)
    return diffusers.UNet2DModel(
        sample_size=8, in_channels=1, out_channels=1, layers_per_block=1, block_out_channels=(8, 16), norm_num_groups=4,
        down_block_types=("DownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "UpBlock2D"),
        num_class_embeds=classes,
    )  # fmt: skip


def save_ddpm(folder: Path, seed: int = 0) -> Path:
    """An unconditional pipeline of ten steps of training noise."""
    diffusers.DDPMPipeline(unet2d(seed), diffusers.DDPMScheduler(num_train_timesteps=10)).save_pretrained(folder)
    return folder
