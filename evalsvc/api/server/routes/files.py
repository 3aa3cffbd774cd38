"""Files: download artifacts of evaluations, upload checkpoints. Clients never name a path."""

from __future__ import annotations

import re
from pathlib import PurePath
from typing import Annotated

from fastapi import Query, Request
from fastapi.responses import FileResponse

from evalsvc.api import schemas
from evalsvc.api.server.auth import CurrentToken, needs
from evalsvc.api.server.auth import router as guarded
from evalsvc.api.server.checkpoint_files import take_in, too_large
from evalsvc.api.server.problems import not_found, responses
from evalsvc.api.server.state import ServerDep
from evalsvc.api.server.upload_meter import UploadMeter
from evalsvc.core.errors import DamagedError, MissingError
from evalsvc.core.files.verification import report
from evalsvc.store.audit import Action
from evalsvc.store.tables import Artifact, Scope

router = guarded("files")
BINARY = "application/octet-stream"
CONTENT = {BINARY: {"schema": {"type": "string", "format": "binary"}}}


@router.get("/artifacts/{id}", response_class=FileResponse, responses=responses(404) | {200: {"content": CONTENT}})
@needs(Scope.READ)
def artifact(server: ServerDep, id: schemas.Id) -> FileResponse:
    """Download the file of an artifact, always as an attachment."""
    with server.database.read() as session:
        row = session.get(Artifact, id)
    if row is None:
        raise not_found(f"there is no artifact {id}")
    root = server.artifacts.root
    if not (root / row.path).resolve().is_relative_to(root):
        raise not_found(f"artifact {id} lies outside of the artifact store and cannot be downloaded")
    try:
        path = server.artifacts.checked(row.path)
    except MissingError:
        raise not_found(f"the file of artifact {id} is missing") from None
    except DamagedError as error:
        report(error)
        raise not_found(f"the file of artifact {id} is damaged: score its checkpoint again with --rerun") from None
    name = f"{id}-{re.sub('[^A-Za-z0-9_-]', '_', row.kind)}{PurePath(row.path).suffix}"
    return FileResponse(path, media_type=BINARY, filename=name, content_disposition_type="attachment")


@router.post(
    "/uploads",
    status_code=201,
    responses=responses(411, 413, 422),
    max_body_size=2**62,  # limited by the operator's setting and counted while it is received
    openapi_extra={"requestBody": {"required": True, "content": CONTENT}},
)
@needs(Scope.SUBMIT, action=Action.UPLOAD_CREATE)
async def upload(
    server: ServerDep,
    bearer: CurrentToken,
    request: Request,
    name: Annotated[str, Query(max_length=120, description="File name, such as step_4000.safetensors.")],
) -> schemas.Upload:
    """Upload a checkpoint file as the body of the request; evaluations refer to it by its digest."""
    limit = server.settings.upload_limit
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > limit:
        raise too_large(limit)
    async with request.app.state.uploading.turn(bearer.id):
        meter, kept = UploadMeter(server, bearer.name), None
        await meter.begin(int(announced) if announced.isdecimal() else 0)
        try:
            kept = await take_in(name, meter.counted(request.stream()), server.uploads, limit)
        finally:
            await meter.end(kept)
    return kept
