"""The extractor inside of a scorer, and its arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32

from evalsvc.core.errors import InputError
from evalsvc.metrics.lazy_torch import torch
from evalsvc.plugins import validation
from evalsvc.plugins.interfaces import Extractor
from evalsvc.plugins.registry import PluginKind, Plugins
from evalsvc.plugins.samples import Samples


@dataclass(frozen=True)
class InnerExtractor:
    """One output of an extractor."""

    extractor: Extractor
    output: str

    @classmethod
    def build(
        cls,
        scorer: str,
        name: str,
        output: str,
        options: Mapping[str, Any] | None,
        device: torch.device,
        plugins: Plugins | None,
    ) -> InnerExtractor:
        """Build the extractor with this name.

        Raises:
            InputError: there is no such extractor or output.
        """
        factory = (plugins or Plugins()).get(PluginKind.EXTRACTOR, name).load()
        extractor: Extractor = factory(device, **dict(options or {}))
        if output not in extractor.info.outputs:
            raise InputError(
                f"scorer {scorer!r}: extractor {name!r} returns {', '.join(extractor.info.outputs)}, not {output!r}: "
                "set the option 'output'"
            )
        return cls(extractor, output)

    @property
    def facts(self) -> dict[str, str]:
        """Everything that can change a row."""
        return {"extractor": self.extractor.info.protocol, "output": self.output}

    def rows(self, samples: Samples) -> Float32[np.ndarray, "n d"]:
        """One row for each sample."""
        return validation.extract(self.extractor, samples)[self.output]
