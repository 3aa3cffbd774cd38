"""Every metric as a pure function: arrays in, frozen :class:`~metrics.score.Score` out.

Required parameters are inputs (``generated``, ``reference``, ``train``, ``heldout``, ``logits``, ``x``, ``texts``,
``nll``, ``tokens``, ``words``, ``bytes``, ``dims``); parameters with a default are options.
"""

from __future__ import annotations

from metrics.moments import Moments as Moments
