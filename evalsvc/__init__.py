"""Evaluation and benchmarking of generative models.

The names here, the metrics of ``evalsvc.metrics.functional``, suite and policy files, the command line and ``/api/v1``
are the public interface.
"""

from __future__ import annotations

import importlib as _importlib
from pathlib import Path as _Path
from typing import TYPE_CHECKING
from typing import Any as _Any

if TYPE_CHECKING:
    from evalsvc.api.client import Client as Client
    from evalsvc.inputs.checkpoints import Checkpoint as Checkpoint
    from evalsvc.inputs.checkpoints import load_into as load_into
    from evalsvc.inputs.suites import Suite as Suite
    from evalsvc.inputs.suites import load_suite as load_suite
    from evalsvc.integrations.python.verbs import compare as compare
    from evalsvc.integrations.python.verbs import evaluate as evaluate
    from evalsvc.integrations.python.verbs import leaderboard as leaderboard
    from evalsvc.integrations.python.verbs import scores as scores
    from evalsvc.integrations.python.verbs import submit as submit
    from evalsvc.plugins.interfaces import Extractor as Extractor
    from evalsvc.plugins.interfaces import ExtractorInfo as ExtractorInfo
    from evalsvc.plugins.interfaces import Generator as Generator
    from evalsvc.plugins.interfaces import GeneratorInfo as GeneratorInfo
    from evalsvc.plugins.items import Drawn as Drawn
    from evalsvc.plugins.items import ItemBatch as ItemBatch
    from evalsvc.plugins.items import Scored as Scored
    from evalsvc.plugins.registry import open_to_clients as open_to_clients
    from evalsvc.plugins.registry import register as register
    from evalsvc.plugins.registry import versioned as versioned
    from evalsvc.plugins.samples import Audio as Audio
    from evalsvc.plugins.samples import Images as Images
    from evalsvc.plugins.samples import SampleRequest as SampleRequest
    from evalsvc.plugins.samples import Texts as Texts
    from evalsvc.plugins.samples import Videos as Videos
    from evalsvc.plugins.scorers import Scorer as Scorer
    from evalsvc.plugins.scorers import ScorerInfo as ScorerInfo

    __version__: str

# Each is imported when it is first asked for: no command waits for torch that does not need it.
_HOMES = {
    "Audio": "evalsvc.plugins.samples",
    "Checkpoint": "evalsvc.inputs.checkpoints",
    "Client": "evalsvc.api.client",
    "Drawn": "evalsvc.plugins.items",
    "Extractor": "evalsvc.plugins.interfaces",
    "ExtractorInfo": "evalsvc.plugins.interfaces",
    "Generator": "evalsvc.plugins.interfaces",
    "GeneratorInfo": "evalsvc.plugins.interfaces",
    "Images": "evalsvc.plugins.samples",
    "ItemBatch": "evalsvc.plugins.items",
    "SampleRequest": "evalsvc.plugins.samples",
    "Scored": "evalsvc.plugins.items",
    "Scorer": "evalsvc.plugins.scorers",
    "ScorerInfo": "evalsvc.plugins.scorers",
    "Suite": "evalsvc.inputs.suites",
    "Texts": "evalsvc.plugins.samples",
    "Videos": "evalsvc.plugins.samples",
    "compare": "evalsvc.integrations.python.verbs",
    "evaluate": "evalsvc.integrations.python.verbs",
    "leaderboard": "evalsvc.integrations.python.verbs",
    "load_into": "evalsvc.inputs.checkpoints",
    "load_suite": "evalsvc.inputs.suites",
    "open_to_clients": "evalsvc.plugins.registry",
    "register": "evalsvc.plugins.registry",
    "scores": "evalsvc.integrations.python.verbs",
    "submit": "evalsvc.integrations.python.verbs",
    "versioned": "evalsvc.plugins.registry",
}
__all__ = [*_HOMES, "__version__"]
# The modules of 0.1 that plug-ins import: a changed import line would change the version of a plug-in's file.
__path__ = [*__path__, str(_Path(__file__).parent / "integrations" / "earlier_names")]


def __getattr__(name: str) -> _Any:
    if name in _HOMES:
        return getattr(_importlib.import_module(_HOMES[name]), name)
    if name == "__version__":
        return _importlib.import_module("importlib.metadata").version("evalsvc")
    raise AttributeError(f"module 'evalsvc' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
