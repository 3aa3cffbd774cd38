"""Tiny pipelines of diffusers with random weights, saved as people save theirs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    ControlNetModel,
    DDIMScheduler,
    StableDiffusionControlNetPipeline,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionInstructPix2PixPipeline,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

PIPELINES = {
    "text-to-image": StableDiffusionPipeline,
    "image-to-image": StableDiffusionImg2ImgPipeline,
    "controlnet": StableDiffusionControlNetPipeline,
    "pix2pix": StableDiffusionInstructPix2PixPipeline,
}


def tokenizer() -> CLIPTokenizer:
    """One token a character."""
    letters = [chr(code) for code in range(33, 127)]
    tokens = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
    return CLIPTokenizer(vocab={token: i for i, token in enumerate(tokens)}, merges=[], model_max_length=16)


def text_encoder() -> CLIPTextModel:
    """One layer of width 16."""
    config = CLIPTextConfig(
        vocab_size=len(tokenizer()), hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=16, bos_token_id=0, eos_token_id=1, pad_token_id=1,
    )  # fmt: skip
    return CLIPTextModel(config)


def autoencoder() -> AutoencoderKL:
    """Images of 16 x 16 pixels to latents (4, 8, 8)."""
    return AutoencoderKL(
        latent_channels=4, block_out_channels=(8, 8), norm_num_groups=4, sample_size=16,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
    )  # fmt: skip


def stable_diffusion(kind: str, seed: int = 0) -> Any:
    """A pipeline of images of 16 x 16 pixels; ``kind`` is a key of :data:`PIPELINES`."""
    torch.manual_seed(seed)
    unet = UNet2DConditionModel(
        sample_size=8, in_channels=8 if kind == "pix2pix" else 4, layers_per_block=1, block_out_channels=(8, 16),
        norm_num_groups=4, cross_attention_dim=16, attention_head_dim=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
    )  # fmt: skip
    parts: dict[str, Any] = {}
    if kind == "controlnet":
        parts["controlnet"] = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(8, 8))
    return PIPELINES[kind](
        vae=autoencoder(), text_encoder=text_encoder(), tokenizer=tokenizer(), unet=unet,
        scheduler=DDIMScheduler(steps_offset=1, clip_sample=False), safety_checker=None, feature_extractor=None,
        requires_safety_checker=False, **parts,
    )  # fmt: skip


def save(folder: Path, kind: str, seed: int = 0) -> Path:
    """A folder as ``save_pretrained`` writes it."""
    stable_diffusion(kind, seed).save_pretrained(folder)
    return folder
