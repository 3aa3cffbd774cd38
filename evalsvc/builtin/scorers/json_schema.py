"""Whether a text is JSON, and valid under a schema."""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from pydantic_core import from_json

from evalsvc.builtin.scorers.rows import NotApplicable, checked, needed, score_texts
from evalsvc.core.errors import InputError
from evalsvc.metrics.lazy_torch import torch
from evalsvc.metrics.registry import Quantity
from evalsvc.metrics.score import Direction
from evalsvc.plugins.items import ItemBatch, Scored
from evalsvc.plugins.registry import open_to_clients, versioned
from evalsvc.plugins.samples import Samples
from evalsvc.plugins.scorers import ScorerInfo


@open_to_clients()  # a schema whose references double takes time that grows exponentially
@versioned("1")
class JsonSchema:
    """The plug-in ``json-schema``: ``json_valid``, whether the text is JSON, and ``schema_valid``, whether it conforms.

    The schema is the option ``schema`` (``{}`` accepts all JSON), or the item's target, as JSON; one of several is
    enough. The draft is that of ``$schema``, by default 2020-12; patterns take time linear in the text, and references
    outside the schema are never fetched. JSON is that of RFC 8259: NaN is not part of it. Nesting of more than 200
    levels, integers of more than 4,300 digits and half surrogate pairs are refused as invalid.
    """

    quantities = (
        Quantity("json_valid", Direction.HIGHER, "share", 0.0, 1.0, title="Valid JSON", title_zh="有效 JSON"),
        Quantity("schema_valid", Direction.HIGHER, "share", 0.0, 1.0, title="Valid schema", title_zh="符合模式"),
    )

    def __init__(self, device: torch.device, *, schema: Mapping[str, Any] | None = None) -> None:
        needed("jsonschema_rs", "json-schema")
        self._validator = None
        if schema is not None:
            try:
                self._validator = _validator(
                    json.dumps(checked("json-schema", "schema", schema, dict), allow_nan=False)
                )
            except (TypeError, ValueError, RecursionError) as error:
                raise InputError(f"invalid option schema of scorer 'json-schema': it {error}") from None
        self.info = ScorerInfo(
            "json-schema",
            frozenset({"text"}),
            self.quantities,
            frozenset({"target"}) if schema is None else frozenset(),
            facts={
                "schema": "" if schema is None else json.dumps(schema, sort_keys=True),
                "jsonschema-rs": importlib.metadata.version("jsonschema-rs"),
            },
        )

    def score(self, samples: Samples, items: ItemBatch) -> Scored:
        """1 or 0 for each text, twice."""
        return score_texts(self.info, samples, items, self._judge)

    def _judge(self, text: str, targets: tuple[str, ...]) -> list[float]:
        try:
            validators = [self._validator] if self._validator else [_validator(target) for target in targets]
        except ValueError as error:
            raise NotApplicable(f"the target {error}") from None
        try:
            value = from_json(text.encode(), allow_inf_nan=False)
        except ValueError:
            return [0.0, 0.0]
        return [1.0, float(any(validator.is_valid(value) for validator in validators))]


@lru_cache(maxsize=256)
def _validator(schema: str) -> Any:
    import jsonschema_rs

    try:
        return jsonschema_rs.validator_for(
            from_json(schema.encode(), allow_inf_nan=False),
            pattern_options=jsonschema_rs.RegexOptions(),
            offline=True,
        )
    except Exception as error:  # of many types, for schemas of many kinds
        raise ValueError(f"is not a JSON schema ({' '.join(str(error).split())[:160]})") from None
