"""Whether the file of a sample says where it comes from: manifests of C2PA."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence

from evalsvc.builtin.scorers.rows import Failed, score_rows
from evalsvc.core.errors import InputError, RefusedError
from evalsvc.inputs import torch_loader
from evalsvc.metrics.lazy_torch import torch
from evalsvc.metrics.registry import Quantity
from evalsvc.metrics.score import Direction
from evalsvc.plugins.items import ItemBatch, Scored
from evalsvc.plugins.registry import open_to_clients, versioned
from evalsvc.plugins.samples import Samples
from evalsvc.plugins.scorers import ScorerInfo

LIBRARY = "c2pa-python"


@open_to_clients()
@versioned("1")
class ProvenanceMark:
    """The plug-in ``provenance-mark``: the manifest of C2PA (Content Credentials) in the file of a sample.

    ``c2pa_present`` is 1 if a manifest is embedded, and ``c2pa_valid`` 1 if also its signature is valid and the hashes
    fit the file, else 0. Any certificate counts: there is no list of trusted signers, so that the signature proves that
    the file was not changed, and not who signed it. A manifest that a file names by an address counts as absent:
    nothing is fetched. Files are parsed in a sandboxed process without network; one that ends it fails.
    """

    quantities = (
        Quantity("c2pa_present", Direction.HIGHER, "share", 0.0, 1.0, title="C2PA manifest", title_zh="C2PA 清单"),
        Quantity("c2pa_valid", Direction.HIGHER, "share", 0.0, 1.0, title="Valid C2PA mark", title_zh="有效 C2PA 标记"),
    )

    def __init__(self, device: torch.device) -> None:
        try:
            version = importlib.metadata.version(LIBRARY)
        except importlib.metadata.PackageNotFoundError:
            raise InputError("scorer 'provenance-mark' needs its extra: pip install 'evalsvc[provenance]'") from None
        self.info = ScorerInfo(
            "provenance-mark",
            frozenset({"image", "audio", "video"}),
            self.quantities,
            frozenset({"file"}),
            facts={LIBRARY: version, "settings": "embedded manifests, nothing fetched, any signer"},
        )

    def score(self, samples: Samples, items: ItemBatch) -> Scored:
        """Presence and validity of the mark of each file."""

        def judge(row: int) -> Sequence[float]:
            try:
                return [float(each) for each in torch_loader.read_c2pa(items.files[row]())]
            except RefusedError as error:
                raise Failed(f"the file {error}") from None
            except InputError as error:
                raise Failed(str(error)) from None

        return score_rows(self.info, len(samples), judge)
