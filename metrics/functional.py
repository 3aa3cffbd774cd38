"""Every metric as a pure function: arrays in, frozen :class:`~evalsvc.metrics.score.Score` out.

Required parameters are inputs (``generated``, ``reference``, ``train``, ``heldout``, ``prompts``, ``logits``, ``x``,
``texts``, ``train_texts``, ``nll``, ``tokens``, ``words``, ``bytes``, ``dims``); parameters with a default are options.
"""

from __future__ import annotations

import warnings
from typing import Any

from evalsvc.metrics.aggregates import best_of as best_of
from evalsvc.metrics.aggregates import failed_share as failed_share
from evalsvc.metrics.aggregates import mean as mean
from evalsvc.metrics.aggregates import pass_at as pass_at
from evalsvc.metrics.authenticity import authenticity as authenticity
from evalsvc.metrics.authenticity import training_spacing as training_spacing
from evalsvc.metrics.balls import neighbor_radii as neighbor_radii
from evalsvc.metrics.bootstrap import bootstrap as bootstrap
from evalsvc.metrics.bradley_terry import bradley_terry as bradley_terry
from evalsvc.metrics.clip_score import clip_score as clip_score
from evalsvc.metrics.clipped import clipped_density_coverage as clipped_density_coverage
from evalsvc.metrics.compression_ratio import compression_ratio as compression_ratio
from evalsvc.metrics.copying import copied_share as copied_share
from evalsvc.metrics.copying import near_duplicate_share as near_duplicate_share
from evalsvc.metrics.corpus import corpus as corpus
from evalsvc.metrics.ct_score import ct_score as ct_score
from evalsvc.metrics.diversity import diversity as diversity
from evalsvc.metrics.feature_likelihood import feature_likelihood_divergence as feature_likelihood_divergence
from evalsvc.metrics.frechet import frechet_distance as frechet_distance
from evalsvc.metrics.frechet import frechet_distance_infinity as frechet_distance_infinity
from evalsvc.metrics.grouped_frechet import grouped_frechet_distance as grouped_frechet_distance
from evalsvc.metrics.inception_score import inception_score as inception_score
from evalsvc.metrics.kernel import kernel_distance as kernel_distance
from evalsvc.metrics.kernel_audio import kernel_audio_distance as kernel_audio_distance
from evalsvc.metrics.likelihood import bits_per_byte as bits_per_byte
from evalsvc.metrics.likelihood import bits_per_dim as bits_per_dim
from evalsvc.metrics.likelihood import paired_difference as paired_difference
from evalsvc.metrics.likelihood import perplexity as perplexity
from evalsvc.metrics.likelihood import word_perplexity as word_perplexity
from evalsvc.metrics.mauve import mauve as mauve
from evalsvc.metrics.mauve import mauve_star as mauve_star
from evalsvc.metrics.memorization_informed_frechet import (
    memorization_informed_frechet as memorization_informed_frechet,
)
from evalsvc.metrics.merged import merged as merged
from evalsvc.metrics.mind import mind as mind
from evalsvc.metrics.moments import Moments as Moments
from evalsvc.metrics.neighbors import nearest_neighbors as nearest_neighbors
from evalsvc.metrics.ngrams import distinct_n as distinct_n
from evalsvc.metrics.ngrams import repetition as repetition
from evalsvc.metrics.precision_recall import density_coverage as density_coverage
from evalsvc.metrics.precision_recall import prdc as prdc
from evalsvc.metrics.precision_recall import precision_recall as precision_recall
from evalsvc.metrics.quantile import quantile as quantile
from evalsvc.metrics.realism import realism as realism
from evalsvc.metrics.self_bleu import self_bleu as self_bleu
from evalsvc.metrics.vendi import vendi_score as vendi_score

_RENAMED = {"nearest_neighbours": "nearest_neighbors", "neighbour_radii": "neighbor_radii"}


def __getattr__(name: str) -> Any:
    if name not in _RENAMED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    message = f"{__name__}.{name} is deprecated and will be removed in evalsvc 0.4: use {_RENAMED[name]}"
    warnings.warn(message, DeprecationWarning, stacklevel=2)
    return globals()[_RENAMED[name]]
