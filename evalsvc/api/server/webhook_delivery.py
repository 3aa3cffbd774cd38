"""Deliver the webhook messages of :mod:`evalsvc.store.outbox`, signed, until they have arrived.

Messages are signed according to the Standard Webhooks specification: HMAC-SHA256 over id, time and body, in the header
``webhook-signature``. A message may be delivered twice (with the same id), but never unsigned and never by a redirect.
If EVALSVC_SECRET_KEY contains several keys there is a signature for each, so that receivers can change secrets in their
own time.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import logging
import secrets
from collections.abc import Collection
from datetime import timedelta
from urllib.parse import urlsplit

from sqlalchemy import delete, select

from evalsvc.core import http_client
from evalsvc.core.errors import InputError
from evalsvc.core.secret_keys import NO_KEYS, SecretKeys, new_salt
from evalsvc.store import audit
from evalsvc.store.audit import Action
from evalsvc.store.session import Database, clock
from evalsvc.store.tables import DatabaseTime, Delivery, Webhook

log = logging.getLogger(__name__)

SECRET_PREFIX = "whsec_"
EVERY = 1.0
"""Seconds between checks for pending messages."""
TIMEOUT = 10.0
LEASE = timedelta(seconds=60)
"""After this time a message of a crashed sender is available to others."""
LONGEST_WAIT = timedelta(hours=1)
GIVE_UP_AFTER = 20
"""Attempts until a message is dropped: about half a day, with delays that double up to an hour."""


def add(
    database: Database,
    url: str,
    events: Collection[str],
    private_hosts: Collection[str] = (),
    keys: SecretKeys = NO_KEYS,
) -> Webhook:
    """Register a URL. The signing secret is stored only if there is no key.

    Raises:
        InputError: the URL is invalid, or it may not be called.
    """
    target = _target(url, private_hosts)
    try:
        http_client.addresses_of(target, private_hosts)
    except http_client.OutboundError as error:
        raise InputError(f"webhook: {error}") from None
    except InputError as error:
        raise InputError(f"webhook: {error}: list it in EVALSVC_WEBHOOK_PRIVATE_HOSTS if it is yours") from None
    with database.write() as session:
        row = Webhook(url=url, events=sorted(set(events)))
        if keys:
            row.salt, row.key = new_salt(), keys.names[0]
        else:
            row.secret = _written(secrets.token_bytes(32))
        session.add(row)
        session.flush()
        # The host alone: paths of such URLs often contain a secret.
        facts = {"host": target.host, "events": " ".join(row.events)}
        audit.record(session, Action.WEBHOOK_CREATE, f"webhook {row.id}", facts)
        return row


def renew(database: Database, webhook: int, keys: SecretKeys) -> Webhook:
    """Move a webhook to the newest key; messages remain signed with older keys as long as these exist.

    Raises:
        InputError: there is no such webhook, its secret is stored, or there is no key.
    """
    with database.write() as session:
        row = session.get(Webhook, webhook)
        if row is None:
            raise InputError(f"there is no webhook {webhook}")
        if row.salt is None or not keys:
            raise InputError(
                f"the secret of webhook {webhook} is not derived from EVALSVC_SECRET_KEY: create another webhook for "
                "the same URL, and delete this one when its receiver uses the new secret"
            )
        row.key = keys.names[0]
        audit.record(session, Action.WEBHOOK_SECRET, f"webhook {webhook}")
        return row


def remove(database: Database, webhook: int) -> None:
    """Delete a webhook; its undelivered messages are dropped.

    Raises:
        InputError: there is no such webhook.
    """
    with database.write() as session:
        row = session.get(Webhook, webhook)
        if row is None:
            raise InputError(f"there is no webhook {webhook}")
        audit.record(session, Action.WEBHOOK_REMOVE, f"webhook {webhook}", {"host": urlsplit(row.url).hostname or ""})
        session.execute(delete(Delivery).where(Delivery.webhook_id == webhook))
        session.delete(row)


async def keep_delivering(database: Database, private_hosts: Collection[str] = (), keys: SecretKeys = NO_KEYS) -> None:
    """Deliver pending messages until canceled; a slow receiver delays only its own messages."""
    at_work: set[int] = set()

    async def work(webhook: int) -> None:
        try:
            await deliver(database, webhook, private_hosts, keys)
        except Exception:
            log.exception("webhook %d: delivery is suspended", webhook)
        finally:
            at_work.remove(webhook)

    async with asyncio.TaskGroup() as group:
        while True:
            try:
                found = await asyncio.to_thread(waiting, database)
            except Exception:
                log.exception("webhook delivery is suspended")
                found = set()
            for webhook in found - at_work:
                at_work.add(webhook)
                group.create_task(work(webhook))
            await asyncio.sleep(EVERY)


def waiting(database: Database) -> set[int]:
    """Webhooks with pending messages."""
    with database.read() as session:
        return set(session.scalars(select(Delivery.webhook_id).where(Delivery.due_at <= DatabaseTime())))


async def deliver(
    database: Database, webhook: int, private_hosts: Collection[str] = (), keys: SecretKeys = NO_KEYS
) -> int:
    """Deliver the pending messages of a webhook, oldest first, until one fails; return the number of attempts.

    Each message is sent by one server at a time.
    """
    tried = 0
    while delivery := await asyncio.to_thread(_take, database, webhook):
        tried += 1
        failure = await send(delivery, private_hosts, keys)
        await asyncio.to_thread(_settle, database, delivery, failure)
        if failure:
            break
    return tried


async def send(delivery: Delivery, private_hosts: Collection[str] = (), keys: SecretKeys = NO_KEYS) -> str | None:
    """Try once, within ``TIMEOUT`` seconds; return ``None`` on success, otherwise the reason.

    The reason is in our own words, because it is stored and shown; the receiver's response is only logged.
    """
    body = json.dumps(
        {"type": delivery.event, "timestamp": delivery.created_at.isoformat(), "data": delivery.body},
        separators=(",", ":"),
    ).encode()
    # The time of the lease, by the database's clock: receivers would reject timestamps of a server with a wrong clock.
    identity, stamp = f"evalsvc_{delivery.id}", str(int((delivery.due_at - LEASE).timestamp()))
    try:
        secrets_of = signing_secrets(delivery.webhook, keys)
        headers = {
            "content-type": "application/json",
            "webhook-id": identity,
            "webhook-timestamp": stamp,
            "webhook-signature": " ".join(sign(secret, identity, stamp, body) for secret in secrets_of),
        }
        _target(delivery.webhook.url, private_hosts)
        answer = await http_client.post(
            delivery.webhook.url, body, headers, private_hosts=private_hosts, seconds=TIMEOUT
        )
    except (InputError, http_client.OutboundError) as error:
        log.info("webhook %d: %s %s", delivery.webhook_id, error, error.detail)
        return str(error)[:500]
    return None if answer.is_success else f"answered {answer.status}"


def sign(secret: str, identity: str, stamp: str, body: bytes) -> str:
    """One signature of ``webhook-signature``, which contains several separated by spaces."""
    key = base64.b64decode(secret.removeprefix(SECRET_PREFIX))
    mac = hmac.new(key, f"{identity}.{stamp}.".encode() + body, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(mac).decode()}"


def signing_secrets(webhook: Webhook, keys: SecretKeys) -> list[str]:
    """The secrets that sign a webhook's messages, that of the newest key first.

    Raises:
        InputError: the receiver has none of the secrets.
    """
    if webhook.salt is None:
        return [webhook.secret or ""]
    if webhook.key not in keys.names:
        raise InputError(f"EVALSVC_SECRET_KEY lacks the key of webhook {webhook.id}: add it after the newest one")
    return [_written(secret) for secret in keys.secrets("webhook", webhook.salt)]


def _target(url: str, private_hosts: Collection[str]) -> http_client.Target:
    try:
        target = http_client.Target.parse(url)
    except InputError as error:
        raise InputError(f"webhook: {error}") from None
    if target.url.scheme != "https" and not target.is_one_of(private_hosts):
        raise InputError(
            f"webhook {url!r} must use https: plain http is allowed only for hosts in EVALSVC_WEBHOOK_PRIVATE_HOSTS"
        )
    return target


def _written(secret: bytes) -> str:
    return SECRET_PREFIX + base64.b64encode(secret).decode()


def _take(database: Database, webhook: int) -> Delivery | None:
    """Lease the oldest pending message, so that no other sender takes it for a while."""
    due = (
        select(Delivery).where(Delivery.webhook_id == webhook, Delivery.due_at <= DatabaseTime()).order_by(Delivery.id)
    )
    with database.write() as session:
        found = session.scalar(due.limit(1).with_for_update(skip_locked=True, of=Delivery))
        if found is not None:
            found.attempts += 1
            found.due_at = clock(session) + LEASE
        return found


def _settle(database: Database, delivery: Delivery, failure: str | None) -> None:
    with database.write() as session:
        row, webhook = session.get(Delivery, delivery.id), session.get(Webhook, delivery.webhook_id)
        if row is None or webhook is None:
            return
        if failure is None:
            webhook.failing_since = webhook.last_error = None
        else:
            webhook.failing_since, webhook.last_error = webhook.failing_since or clock(session), failure
        if failure is None or row.attempts >= GIVE_UP_AFTER:
            if failure is not None:
                log.error("webhook %d: message %d was dropped: %s", webhook.id, row.id, failure)
            session.delete(row)
        else:
            row.due_at = clock(session) + min(LONGEST_WAIT, timedelta(seconds=5 * 2 ** (row.attempts - 1)))
