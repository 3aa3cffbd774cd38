"""Small networks with random weights in a folder, for machines without a network: what extractors are opened from."""

from __future__ import annotations

from pathlib import Path

import torch

from benchmarks.random_inception import save

LAYERS = {"hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4}
WORDS = 300


def inception(folder: Path) -> Path:
    """The whole network, as its published file is."""
    return save(folder / "inception.pth")


def vgg16(folder: Path) -> Path:
    """The whole network, as torchvision saves it."""
    from evalsvc.builtin.extractors.vgg16 import VGG16Network

    torch.manual_seed(0)
    torch.save(VGG16Network().state_dict(), folder / "vgg16.pth")
    return folder / "vgg16.pth"


def resemblyzer(folder: Path) -> Path:
    """The whole network, as its package saves it."""
    from evalsvc.builtin.extractors.resemblyzer import SpeakerEncoder

    torch.manual_seed(0)
    torch.save({"model_state": SpeakerEncoder().state_dict()}, folder / "resemblyzer.pt")
    return folder / "resemblyzer.pt"


def clip(folder: Path) -> Path:
    """Two layers of CLIP."""
    from transformers import CLIPConfig, CLIPModel

    special = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    text = LAYERS | special | {"vocab_size": WORDS, "max_position_embeddings": 32}
    vision = LAYERS | {"image_size": 56, "patch_size": 14}
    torch.manual_seed(0)
    CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=24)).save_pretrained(folder / "clip")
    return folder / "clip"


def dinov2(folder: Path) -> Path:
    """Two layers of DINOv2, with the positions of the published one."""
    from transformers import Dinov2Config, Dinov2Model

    torch.manual_seed(0)
    Dinov2Model(Dinov2Config(**LAYERS, image_size=518, patch_size=14)).save_pretrained(folder / "dinov2")
    return folder / "dinov2"


def clap(folder: Path) -> Path:
    """Two stages of CLAP."""
    from transformers import ClapConfig, ClapFeatureExtractor, ClapModel

    audio = {"hidden_size": 32, "patch_embeds_hidden_size": 16, "depths": [1, 1], "num_attention_heads": [2, 2]}
    audio |= {"num_hidden_layers": 2, "window_size": 8, "spec_size": 256, "num_mel_bins": 64}
    text = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = ClapConfig(audio_config=audio, text_config=text | {"vocab_size": WORDS}, projection_dim=16)
    torch.manual_seed(0)
    ClapModel(config).save_pretrained(folder / "clap")
    ClapFeatureExtractor().save_pretrained(folder / "clap")
    return folder / "clap"


def bert(folder: Path) -> Path:
    """Two layers of BERT, with a tokenizer of bytes."""
    from transformers import BertConfig, BertModel

    from evalsvc.builtin.demo.train_text import byte_tokenizer

    torch.manual_seed(0)
    BertModel(BertConfig(**LAYERS, vocab_size=WORDS, max_position_embeddings=128)).save_pretrained(folder / "bert")
    tokenizer = byte_tokenizer()
    tokenizer.pad_token = "</s>"
    tokenizer.save_pretrained(folder / "bert")
    return folder / "bert"
