"""Options of generators that call a network: what it receives, and how its output is read."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from evalsvc.builtin.generators.parameters import Role
from evalsvc.plugins.interfaces import Modality

Range = Literal["signed", "unit"]


def _shape(value: Any) -> Any:
    return (value,) if isinstance(value, int) else value


Shape = Annotated[tuple[Annotated[int, Field(gt=0)], ...], BeforeValidator(_shape), Field(min_length=1)]


class CallOptions(BaseModel):
    """Arguments of a network, and the reading of its output."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    latent: Shape | None = None
    """Shape of one latent, drawn standard normal: 100, or [128, 1, 1]; by default, that of the network."""
    inputs: dict[str, Role] | None = None
    """The role of each parameter: latent, label, source, prompt or count; by default, by its name."""
    output: Range = "signed"
    """Range of returned images: signed for [-1, 1], unit for [0, 1]."""
    source: Range | None = None
    """Range of the images that the network receives; by default, that of its output."""
    classes: Annotated[int, Field(gt=0)] | None = None
    """Number of classes: labels beyond are refused."""
    modality: Modality | None = None
    """Modality of the output, where its shape leaves it open."""
    rate: Annotated[int, Field(ge=1000, le=768_000)] | None = None
    """Sample rate of returned sounds in Hz."""


OPTIONS = tuple(CallOptions.model_fields)
"""Names of the options."""
