"""Tiny pipelines of ``diffusers`` with random weights, saved as people save theirs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import diffusers
import peft
import torch
import transformers


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


def dit(classes: int = 1000) -> Any:
    """A class-conditional transformer of latents of 4 x 4, of the 1,000 classes that its pipeline assumes."""
    torch.manual_seed(0)
    transformer = diffusers.DiTTransformer2DModel(
        sample_size=4, num_layers=1, patch_size=2, attention_head_dim=8, num_attention_heads=2, in_channels=4,
        out_channels=8, attention_bias=True, activation_fn="gelu-approximate", num_embeds_ada_norm=classes,
        norm_type="ada_norm_zero", norm_elementwise_affine=False,
    )  # fmt: skip
    return diffusers.DiTPipeline(transformer, vae(), diffusers.DDIMScheduler())


def tokenizer() -> Any:
    """A tokenizer of CLIP whose tokens are letters, padded to 16."""
    letters = "abcdefghijklmnopqrstuvwxyz,.!"
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    return transformers.CLIPTokenizer(
        vocab={word: number for number, word in enumerate(words)}, merges=[], model_max_length=16
    )


def text_encoder(kind: Any = None, seed: int = 1) -> Any:
    """A text model of CLIP with 16 dimensions."""
    torch.manual_seed(seed)
    config = transformers.CLIPTextConfig(
        vocab_size=60, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=16, projection_dim=16, bos_token_id=58, eos_token_id=59, pad_token_id=59,
    )  # fmt: skip
    return (kind or transformers.CLIPTextModel)(config).eval()


def vae(latents: int = 4, seed: int = 2, **more: Any) -> Any:
    """Colors; halves the sides."""
    torch.manual_seed(seed)
    return diffusers.AutoencoderKL(
        in_channels=3, out_channels=3, latent_channels=latents, block_out_channels=(8, 8), norm_num_groups=4,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2, sample_size=16,
        **more,
    ).eval()  # fmt: skip


def unet(channels: int = 4, width: int = 8, seed: int = 3, **more: Any) -> Any:
    """A conditional U-Net of latents of 8 x 8."""
    torch.manual_seed(seed)
    return diffusers.UNet2DConditionModel(
        sample_size=8, in_channels=channels, out_channels=4, layers_per_block=1, block_out_channels=(width, 2 * width),
        norm_num_groups=4, cross_attention_dim=16, attention_head_dim=2,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        **more,
    ).eval()  # fmt: skip


def stable_diffusion(kind: Any = None, **components: Any) -> Any:
    """A pipeline of the family of Stable Diffusion, or another with the same components."""
    parts = {
        "vae": vae(), "text_encoder": text_encoder(), "tokenizer": tokenizer(), "unet": unet(),
        "scheduler": diffusers.DDIMScheduler(clip_sample=False, steps_offset=1),
        "safety_checker": None, "feature_extractor": None,
    }  # fmt: skip
    pipeline = (kind or diffusers.StableDiffusionPipeline)(**parts | components, requires_safety_checker=False)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def controlnet() -> Any:
    """A ControlNet for :func:`unet`, whose first layers are not zero as they are before training."""
    torch.manual_seed(5)
    made = diffusers.ControlNetModel(
        in_channels=4, block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4, cross_attention_dim=16,
        attention_head_dim=2, down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        conditioning_embedding_out_channels=(8, 8),
    ).eval()  # fmt: skip
    for parameter in made.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
    return made


def sdxl() -> Any:
    """Two text encoders, and sizes as conditions of the U-Net."""
    torch.manual_seed(6)
    network = diffusers.UNet2DConditionModel(
        sample_size=8, in_channels=4, out_channels=4, layers_per_block=1, block_out_channels=(8, 16), norm_num_groups=4,
        cross_attention_dim=32, attention_head_dim=(2, 4), use_linear_projection=True, addition_embed_type="text_time",
        addition_time_embed_dim=8, transformer_layers_per_block=(1, 1), projection_class_embeddings_input_dim=64,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
    )  # fmt: skip
    return diffusers.StableDiffusionXLPipeline(
        vae=vae(), unet=network, scheduler=diffusers.EulerDiscreteScheduler(), tokenizer=tokenizer(),
        tokenizer_2=tokenizer(), text_encoder=text_encoder(),
        text_encoder_2=text_encoder(transformers.CLIPTextModelWithProjection, seed=7),
    )  # fmt: skip


def stable_diffusion_3() -> Any:
    """A transformer with two text encoders and without T5."""
    torch.manual_seed(8)
    transformer = diffusers.SD3Transformer2DModel(
        sample_size=8, patch_size=1, in_channels=4, num_layers=1, attention_head_dim=8, num_attention_heads=2,
        joint_attention_dim=32, caption_projection_dim=16, pooled_projection_dim=32, out_channels=4,
    )  # fmt: skip
    encoders = [text_encoder(transformers.CLIPTextModelWithProjection, seed=seed) for seed in (1, 7)]
    return diffusers.StableDiffusion3Pipeline(
        transformer=transformer, scheduler=diffusers.FlowMatchEulerDiscreteScheduler(), vae=vae(shift_factor=0.0),
        text_encoder=encoders[0], text_encoder_2=encoders[1], text_encoder_3=None, tokenizer=tokenizer(),
        tokenizer_2=tokenizer(), tokenizer_3=None,
    )  # fmt: skip


def flux(**scheduler: Any) -> Any:
    """A transformer with a text encoder of CLIP and one of T5; ``scheduler`` are options of its scheduler."""
    torch.manual_seed(9)
    transformer = diffusers.FluxTransformer2DModel(
        patch_size=1, in_channels=4, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=16, pooled_projection_dim=16, axes_dims_rope=[4, 4, 8],
    )  # fmt: skip
    t5 = transformers.T5Config(vocab_size=60, d_model=16, d_ff=16, d_kv=8, num_heads=2, num_layers=1)
    return diffusers.FluxPipeline(
        transformer=transformer, scheduler=diffusers.FlowMatchEulerDiscreteScheduler(**scheduler),
        vae=vae(1, shift_factor=0.0), text_encoder=text_encoder(), text_encoder_2=transformers.T5EncoderModel(t5),
        tokenizer=tokenizer(), tokenizer_2=tokenizer(),
    )  # fmt: skip


def save_lora(folder: Path, width: int = 8, **settings: Any) -> Path:
    """An adapter of the attention of :func:`unet`, with the settings of peft in its header, as scripts save it."""
    network = unet(width=width)
    network.add_adapter(peft.LoraConfig(r=2, lora_alpha=4, target_modules=["to_q", "to_v"]))
    for name, parameter in network.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.5)
    diffusers.StableDiffusionPipeline.save_lora_weights(
        folder,
        unet_lora_layers=peft.get_peft_model_state_dict(network),
        unet_lora_adapter_metadata=network.peft_config["default"].to_dict() | settings,
    )
    return folder


def t5() -> Any:
    """An encoder of texts with 16 dimensions."""
    config = {"vocab_size": 60, "d_model": 16, "d_ff": 16, "d_kv": 8, "num_heads": 2, "num_layers": 1}
    return transformers.T5EncoderModel(transformers.T5Config(**config)).eval()


def stable_audio() -> Any:
    """Stereo sounds of 4,000 samples per second."""
    torch.manual_seed(10)
    transformer = diffusers.StableAudioDiTModel(
        sample_size=8, in_channels=4, num_layers=1, attention_head_dim=8, num_attention_heads=2, out_channels=4,
        num_key_value_attention_heads=1, cross_attention_dim=16, time_proj_dim=8, global_states_input_dim=32,
        cross_attention_input_dim=16,
    )  # fmt: skip
    oobleck = diffusers.AutoencoderOobleck(
        encoder_hidden_size=6, downsampling_ratios=[1, 2], decoder_channels=3, decoder_input_channels=4,
        audio_channels=2, channel_multiples=[2, 4], sampling_rate=4000,
    )  # fmt: skip
    projection = diffusers.pipelines.stable_audio.StableAudioProjectionModel(16, 16, 0, 32)
    scheduler = diffusers.EDMDPMSolverMultistepScheduler(prediction_type="v_prediction", sigma_data=1.0)
    return diffusers.StableAudioPipeline(
        vae=oobleck, text_encoder=t5(), projection_model=projection, tokenizer=tokenizer(), transformer=transformer,
        scheduler=scheduler,
    )  # fmt: skip


def wan() -> Any:
    """Videos by a transformer."""
    torch.manual_seed(11)
    autoencoder = diffusers.AutoencoderKLWan(
        base_dim=3, z_dim=16, dim_mult=[1, 1, 1, 1], num_res_blocks=1, temperal_downsample=[False, True, True]
    )
    transformer = diffusers.WanTransformer3DModel(
        patch_size=(1, 2, 2), num_attention_heads=2, attention_head_dim=12, in_channels=16, out_channels=16,
        text_dim=16, freq_dim=32, ffn_dim=32, num_layers=1, rope_max_seq_len=32,
    )  # fmt: skip
    return diffusers.WanPipeline(
        tokenizer=tokenizer(), text_encoder=t5(), transformer=transformer, vae=autoencoder,
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(),
    )  # fmt: skip
