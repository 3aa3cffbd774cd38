"""Webhooks: what :mod:`evalsvc.store.outbox` owes them is sent, signed, until it has arrived.

Messages are signed as the Standard Webhooks specification says: HMAC-SHA256 over id, time and body, in the header
``webhook-signature``. A message may come twice (the id is the same), never unsigned, and never by a redirect. While
EVALSVC_SECRET_KEY holds several keys there is a signature for each, so that receivers change secrets in their own time.
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
"""Seconds between looks at what has fallen due."""
TIMEOUT = 10.0
LEASE = timedelta(seconds=60)
"""A sender that died leaves its message to others after this long."""
LONGEST_WAIT = timedelta(hours=1)
GIVE_UP_AFTER = 20
"""Attempts until a message is dropped: with waits that double up to an hour, about half a day."""


def add(
    database: Database,
    url: str,
    events: Collection[str],
    private_hosts: Collection[str] = (),
    keys: SecretKeys = NO_KEYS,
) -> Webhook:
    """Register an address. What signs its messages is stored only where there is no key.

    Raises:
        InputError: no web address, or one that may not be called.
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
        # The host alone: paths of such addresses often hold a secret.
        facts = {"host": target.host, "events": " ".join(row.events)}
        audit.record(session, Action.WEBHOOK_CREATE, f"webhook {row.id}", facts)
        return row


def renew(database: Database, webhook: int, keys: SecretKeys) -> Webhook:
    """Move a webhook to the newest key; messages stay signed under older ones as long as these are there.

    Raises:
        InputError: there is no such webhook, or its secret is stored, or there is no key.
    """
    with database.write() as session:
        row = session.get(Webhook, webhook)
        if row is None:
            raise InputError(f"there is no webhook {webhook}")
        if row.salt is None or not keys:
            raise InputError(
                f"the secret of webhook {webhook} is not computed from EVALSVC_SECRET_KEY: create another one for the "
                "same address, and delete this one when its receiver knows the new secret"
            )
        row.key = keys.names[0]
        audit.record(session, Action.WEBHOOK_SECRET, f"webhook {webhook}")
        return row


def remove(database: Database, webhook: int) -> None:
    """Tell an address no more; what it was still owed is dropped.

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
    """Send what falls due until cancelled: a receiver that is slow holds up its own messages and nobody else's."""
    at_work: set[int] = set()

    async def work(webhook: int) -> None:
        try:
            await deliver(database, webhook, private_hosts, keys)
        except Exception:
            log.exception("webhook %d is not sent to at present", webhook)
        finally:
            at_work.remove(webhook)

    async with asyncio.TaskGroup() as group:
        while True:
            try:
                found = await asyncio.to_thread(waiting, database)
            except Exception:
                log.exception("webhooks are not sent to at present")
                found = set()
            for webhook in found - at_work:
                at_work.add(webhook)
                group.create_task(work(webhook))
            await asyncio.sleep(EVERY)


def waiting(database: Database) -> set[int]:
    """Webhooks that something is due for."""
    with database.read() as session:
        return set(session.scalars(select(Delivery.webhook_id).where(Delivery.due_at <= DatabaseTime())))


async def deliver(
    database: Database, webhook: int, private_hosts: Collection[str] = (), keys: SecretKeys = NO_KEYS
) -> int:
    """Send a webhook what is due, the oldest first, until one does not arrive; how many were tried.

    Each message is sent once at a time, however many servers there are.
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
    """Try once, for ``TIMEOUT`` seconds in all; ``None`` if it has arrived, else why not.

    The reason is in our words, as it is stored and shown; what the receiver said in place of HTTP is in the log.
    """
    body = json.dumps(
        {"type": delivery.event, "timestamp": delivery.created_at.isoformat(), "data": delivery.body},
        separators=(",", ":"),
    ).encode()
    # Of when it was taken, by the database's clock: receivers refuse what a server with a wrong clock would stamp.
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
    """One signature of ``webhook-signature``, which holds several with spaces between them."""
    key = base64.b64decode(secret.removeprefix(SECRET_PREFIX))
    mac = hmac.new(key, f"{identity}.{stamp}.".encode() + body, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(mac).decode()}"


def signing_secrets(webhook: Webhook, keys: SecretKeys) -> list[str]:
    """The secrets that sign a webhook's messages, that of the newest key first.

    Raises:
        InputError: its receiver knows none of them.
    """
    if webhook.salt is None:
        return [webhook.secret or ""]
    if webhook.key not in keys.names:
        raise InputError(f"EVALSVC_SECRET_KEY lacks the key of webhook {webhook.id}: add it behind the newest one")
    return [_written(secret) for secret in keys.secrets("webhook", webhook.salt)]


def _target(url: str, private_hosts: Collection[str]) -> http_client.Target:
    try:
        target = http_client.Target.parse(url)
    except InputError as error:
        raise InputError(f"webhook: {error}") from None
    if target.url.scheme != "https" and not target.is_one_of(private_hosts):
        raise InputError(
            f"webhook {url!r} is not https: plain http only goes to hosts in EVALSVC_WEBHOOK_PRIVATE_HOSTS"
        )
    return target


def _written(secret: bytes) -> str:
    return SECRET_PREFIX + base64.b64encode(secret).decode()


def _take(database: Database, webhook: int) -> Delivery | None:
    """The oldest message that is due, leased: no other sender takes it for a while."""
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
                log.error("webhook %d: message %d is given up: %s", webhook.id, row.id, failure)
            session.delete(row)
        else:
            row.due_at = clock(session) + min(LONGEST_WAIT, timedelta(seconds=5 * 2 ** (row.attempts - 1)))
