"""Webhooks: subscribe URLs to events."""

from __future__ import annotations

from fastapi import Response
from sqlalchemy import select

from evalsvc.api import schemas
from evalsvc.api.server import webhook_delivery
from evalsvc.api.server.auth import needs
from evalsvc.api.server.auth import router as guarded
from evalsvc.api.server.pagination import PageParams, page
from evalsvc.api.server.problems import not_found, responses
from evalsvc.api.server.state import Server, ServerDep
from evalsvc.core.errors import InputError
from evalsvc.store.audit import Action
from evalsvc.store.tables import Scope, Webhook

router = guarded("webhooks")


@router.get("/webhooks", responses=responses(400))
@needs(Scope.ADMIN)
def listed(server: ServerDep, asked: PageParams) -> schemas.Page[schemas.Webhook]:
    """The webhooks, newest first, and whether deliveries fail."""
    with server.database.read() as session:
        return page(session, select(Webhook), Webhook.id, asked, schemas.Webhook.model_validate, newest_first=True)


@router.post("/webhooks", status_code=201)
@needs(Scope.ADMIN, action=Action.WEBHOOK_CREATE)
def create(server: ServerDep, asked: schemas.WebhookCreate) -> schemas.WebhookCreated:
    """Create a webhook. Only this response contains the secret that signs its messages."""
    hosts = server.settings.webhook_private_hosts
    return _with_secret(server, webhook_delivery.add(server.database, asked.url, asked.events, hosts, server.keys))


@router.post("/webhooks/{id}/secret", responses=responses(404))
@needs(Scope.ADMIN, action=Action.WEBHOOK_SECRET)
def renew(server: ServerDep, id: schemas.Id) -> schemas.WebhookCreated:
    """The secret under the newest key of EVALSVC_SECRET_KEY, for a receiver that will switch to it.

    Messages remain signed with older keys as long as the setting contains them.
    """
    with server.database.read() as session:
        if session.get(Webhook, id) is None:
            raise not_found(f"there is no webhook {id}")
    return _with_secret(server, webhook_delivery.renew(server.database, id, server.keys))


@router.delete("/webhooks/{id}", status_code=204, response_class=Response, responses=responses(404))
@needs(Scope.ADMIN, action=Action.WEBHOOK_REMOVE)
def remove(server: ServerDep, id: schemas.Id) -> None:
    """Delete a webhook; its undelivered messages are dropped."""
    try:
        webhook_delivery.remove(server.database, id)
    except InputError as error:
        raise not_found(error) from None


def _with_secret(server: Server, row: Webhook) -> schemas.WebhookCreated:
    known = schemas.Webhook.model_validate(row)
    return schemas.WebhookCreated(**known.model_dump(), secret=webhook_delivery.signing_secrets(row, server.keys)[0])
