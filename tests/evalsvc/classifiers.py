"""Tiny classifiers with random weights, saved as people save theirs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers

from tests.evalsvc.language_models import VOCABULARY, tokenizer

SMALL = {
    **{"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32},
    "initializer_range": 1.0,
}
TEXT = {"vocab_size": VOCABULARY, "max_position_embeddings": 48, "pad_token_id": 1}
WAV2VEC = {
    **{"conv_dim": (8, 8), "conv_kernel": (10, 3), "conv_stride": (5, 2), "num_feat_extract_layers": 2},
    **{"feat_extract_norm": "layer", "num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2},
    **{"classifier_proj_size": 8},
}
KINDS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "bert": ("Bert", "SequenceClassification", TEXT),
    "roberta": ("Roberta", "SequenceClassification", TEXT),
    "gpt2": ("GPT2", "SequenceClassification", {"vocab_size": VOCABULARY, "n_positions": 48, "pad_token_id": None}),
    "vit": ("ViT", "ImageClassification", {"image_size": 16, "patch_size": 8}),
    "wav2vec2": ("Wav2Vec2", "SequenceClassification", WAV2VEC),
    "ast": ("AST", "AudioClassification", {"num_mel_bins": 16, "max_length": 64, "patch_size": 8}),
}
LABELS = ("fine", "toxic", "refusal")


def save_classifier(folder: Path, kind: str, labels: tuple[str, ...] = LABELS, **config: Any) -> Path:
    """A folder as ``save_pretrained`` writes it, with the tokenizer or preprocessor of the model."""
    torch.manual_seed(0)
    name, head, sizes = KINDS[kind]
    named = {"id2label": dict(enumerate(labels)), "label2id": {label: i for i, label in enumerate(labels)}}
    settings = getattr(transformers, f"{name}Config")(**{**SMALL, **sizes, **named, **config})
    getattr(transformers, f"{name}For{head}")(settings).save_pretrained(folder)
    if kind == "vit":
        transformers.ViTImageProcessorPil(size={"height": 16, "width": 16}).save_pretrained(folder)
    elif kind == "wav2vec2":
        transformers.Wav2Vec2FeatureExtractor().save_pretrained(folder)
    elif kind == "ast":
        transformers.ASTFeatureExtractor(num_mel_bins=16, max_length=64).save_pretrained(folder)
    else:
        tokenizer(ends=kind != "gpt2").save_pretrained(folder)
    return folder
