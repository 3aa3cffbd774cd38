"""Every metric as a pure function: arrays in, frozen :class:`~metrics.score.Score` out.

Required parameters are inputs (``generated``, ``reference``, ``train``, ``heldout``, ``prompts``, ``logits``, ``x``,
``texts``, ``train_texts``, ``nll``, ``tokens``, ``words``, ``bytes``, ``dims``); parameters with a default are options.
"""

from __future__ import annotations

from metrics.bootstrap import bootstrap as bootstrap
from metrics.bradley_terry import bradley_terry as bradley_terry
from metrics.clip_score import clip_score as clip_score
from metrics.copying import copied_share as copied_share
from metrics.copying import near_duplicate_share as near_duplicate_share
from metrics.frechet import frechet_distance as frechet_distance
from metrics.frechet import frechet_distance_infinity as frechet_distance_infinity
from metrics.inception_score import inception_score as inception_score
from metrics.kernel import kernel_distance as kernel_distance
from metrics.likelihood import bits_per_byte as bits_per_byte
from metrics.likelihood import bits_per_dim as bits_per_dim
from metrics.likelihood import paired_difference as paired_difference
from metrics.likelihood import perplexity as perplexity
from metrics.likelihood import word_perplexity as word_perplexity
from metrics.manifold import density_coverage as density_coverage
from metrics.manifold import neighbour_radii as neighbour_radii
from metrics.manifold import prdc as prdc
from metrics.manifold import precision_recall as precision_recall
from metrics.mauve import mauve as mauve
from metrics.mauve import mauve_star as mauve_star
from metrics.memorization import authenticity as authenticity
from metrics.memorization import ct_score as ct_score
from metrics.memorization import memorization_informed_frechet as memorization_informed_frechet
from metrics.memorization import training_spacing as training_spacing
from metrics.mind import mind as mind
from metrics.moments import Moments as Moments
from metrics.neighbours import nearest_neighbours as nearest_neighbours
from metrics.ngrams import compression_ratio as compression_ratio
from metrics.ngrams import distinct_n as distinct_n
from metrics.ngrams import repetition as repetition
from metrics.ngrams import self_bleu as self_bleu
from metrics.realism import realism as realism
from metrics.vendi import vendi_score as vendi_score
