"""Items: samples of evaluations one by one, their changes between two checkpoints, and the samples themselves."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import Path, Query
from fastapi.responses import Response

from evalsvc.analysis import item_listings, items
from evalsvc.analysis.kept_samples import KeptSamples
from evalsvc.analysis.sample_files import as_file
from evalsvc.api import schemas
from evalsvc.api.server.auth import needs
from evalsvc.api.server.auth import router as guarded
from evalsvc.api.server.pagination import PageParams, cut
from evalsvc.api.server.problems import no_checkpoint, not_found, responses
from evalsvc.api.server.state import ServerDep
from evalsvc.core.errors import DamagedError, InputError
from evalsvc.core.files.verification import report
from evalsvc.store import names
from evalsvc.store.tables import Evaluation, Scope

router = guarded("items")
Of = Annotated[
    str | None,
    Query(
        min_length=1,
        max_length=300,
        description="Label of a score, with a slice as in `wer[lang=de]`, or `scorer/quantity`, or a scorer; by "
        "default the suite's first.",
    ),
]
MEDIA = {kind: {"schema": {"type": "string", "format": "binary"}} for kind in ("text/plain", "image/png", "audio/wav")}


@router.get("/items", responses=responses(400, 404, 409))
@needs(Scope.READ, shared=True)
def listing(
    server: ServerDep,
    asked: PageParams,
    checkpoint: schemas.Name,
    suite: schemas.SuiteName | None = None,
    of: Of = None,
    sort: Annotated[Literal["worst", "best"], Query(description="Which samples come first.")] = "worst",
    by: Annotated[str | None, Query(max_length=200, description="Tag whose values are listed as slices.")] = None,
) -> schemas.ItemListing:
    """Samples of a checkpoint's current evaluation from the worst, with prompt, target and answer.

    Samples without a value come last, those that failed before those that a scorer does not apply to.
    """
    start = asked.after(int) or 0
    (table,) = _tables(server, suite, checkpoint)
    try:
        found = item_listings.item_listing(table, of, asked.limit + 1, start, best=sort == "best", by=by)
    except InputError as error:
        raise not_found(error) from None
    except DamagedError as error:
        raise _damaged(error, table.name) from None
    shown, cursor = cut(found.items, asked.limit, lambda _: start + asked.limit)
    return schemas.ItemListing.model_validate(found).model_copy(
        update={"items": [schemas.ItemSample.model_validate(each) for each in shown], "next": cursor}
    )


@router.get("/comparison/items", responses=responses(404, 409))
@needs(Scope.READ, shared=True)
def comparison(
    server: ServerDep,
    a: schemas.Name,
    b: schemas.Name,
    suite: schemas.SuiteName | None = None,
    of: Of = None,
    limit: Annotated[int, Query(ge=1, le=100, description="Items that got worse, and as many that got better.")] = 10,
) -> schemas.ItemComparison:
    """Items that got worse and better between two checkpoints, paired by item, b minus a."""
    of_a, of_b = _tables(server, suite, a, b)
    try:
        return schemas.ItemComparison.model_validate(item_listings.item_comparison(of_a, of_b, of, limit))
    except InputError as error:
        raise not_found(error) from None
    except DamagedError as error:
        raise _damaged(error, f"{of_a.name} or {of_b.name}") from None


@router.get(
    "/evaluations/{id}/samples/{sample}",
    response_class=Response,
    responses=responses(404) | {200: {"content": MEDIA, "description": "The sample as a file."}},
)
@needs(Scope.READ)
def sample(server: ServerDep, id: schemas.Id, sample: Annotated[int, Path(ge=0, lt=2**31)]) -> Response:
    """One kept sample: UTF-8 text, PNG (animated for a video) or WAV, always as an attachment."""
    with server.database.read() as session:
        run = session.get(Evaluation, id)
        if run is None:
            raise not_found(f"there is no evaluation {id}")
        try:
            table = items.open_items(session, server.artifacts, run)
        except InputError as error:
            raise not_found(error) from None
        except DamagedError as error:
            raise _damaged(error, f"evaluation {id}") from None
    if sample >= len(table):
        raise not_found(f"evaluation {id} has {len(table)} samples, not {sample + 1}")
    kept = KeptSamples(table)[sample]
    if kept.absent:
        raise not_found(f"sample {sample} of evaluation {id} cannot be shown: {kept.absent}")
    content, kind, suffix = as_file(kept)
    return Response(
        content, media_type=kind, headers={"content-disposition": f'attachment; filename="{id}-{sample}.{suffix}"'}
    )


def _tables(server: ServerDep, suite: str | None, *checkpoints: str) -> list[items.ItemTable]:
    """The item tables of checkpoints by their names.

    Raises:
        ProblemError: 404 if one does not exist, or has no items; 409 if its name is ambiguous.
    """
    with server.database.read() as session:
        try:
            found = [names.find(session, name) for name in checkpoints]
            return items.items_of_checkpoints(session, server.artifacts, found, suite)
        except InputError as error:
            raise no_checkpoint(error) from None
        except DamagedError as error:
            raise _damaged(error, " or ".join(checkpoints)) from None


def _damaged(error: DamagedError, what: str) -> Exception:
    report(error)
    return not_found(f"the items of {what} are missing or damaged: score again with --rerun")
