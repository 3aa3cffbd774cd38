"""Move aliases to checkpoints, and record who moved them, why and by which decision."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from evalsvc.core.digests import digest_json
from evalsvc.core.errors import InputError
from evalsvc.gates.policy import Policy
from evalsvc.inputs.suites import Suite
from evalsvc.store import audit, names
from evalsvc.store.audit import Action
from evalsvc.store.session import Database, clock, get_or_insert
from evalsvc.store.tables import Alias, Checkpoint, Gate, Promotion, PromotionKind, Protection

NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}"
"""Valid alias names; ``@`` is excluded, because ``model@step`` names a checkpoint."""


class PromotionError(InputError):
    """The alias was not moved, because neither a gate nor a reason permits it."""


@dataclass(frozen=True)
class Authority:
    """The person who moves an alias, and the grounds: the number of a gate, or a reason."""

    by: str = ""
    gate: int | None = None
    reason: str = ""


def promote(
    database: Database, alias: str, checkpoint: str | int, gate: int | None = None, *, by: str = "", reason: str = ""
) -> str:
    """Set the alias and record the move in one transaction; return the name of the checkpoint that it now points to.

    Pass the row id of the checkpoint that a gate judged, because its name may refer to a newer checkpoint by now.

    Raises:
        InputError: the checkpoint does not exist, or the alias name is invalid.
        PromotionError: the gate, or the alias's protection, does not permit the move.
    """
    with database.write() as session:
        found = (
            session.get_one(Checkpoint, checkpoint) if isinstance(checkpoint, int) else names.find(session, checkpoint)
        )
        point(session, alias, found, Authority(by, gate, reason))
        return names.title_of(session, found)


def point(session: Session, alias: str, checkpoint: Checkpoint, authority: Authority) -> Alias:
    """Set the alias and record the move.

    A gate permits it if it passed, is not a shadow gate, judged exactly this checkpoint and configuration, is newer
    than the alias's last move, and compared with the checkpoint that the alias points to now, if it compared with this
    alias. A protected alias moves only by a gate under the pinned policy, to its first checkpoint, or back to an
    earlier checkpoint with a reason. The alias's row is locked, so that concurrent promotions are serialized.

    Raises:
        InputError: the alias name is invalid.
        PromotionError: the move is not permitted.
    """
    check_name(alias)
    if len(authority.reason) > 500:
        raise InputError("the reason is too long: use at most 500 characters")
    pinned = protection(session, alias, lock=True)
    row = session.get(Alias, alias, with_for_update={"of": Alias}, populate_existing=True)
    kind = PromotionKind.SET
    if authority.gate is not None:
        _check_gate(session, alias, row, checkpoint, authority.gate, pinned)
        kind = PromotionKind.GATE
    elif pinned and row:
        _check_rollback(session, alias, checkpoint, authority.reason, pinned)
        kind = PromotionKind.ROLLBACK
    if row is None:
        new = Alias(name=alias, checkpoint_id=checkpoint.id)
        row = get_or_insert(session, select(Alias).where(Alias.name == alias), new)
        if row.checkpoint_id != checkpoint.id:
            raise PromotionError(f"alias {alias!r} was set by another process at the same time: try again")
        kind = PromotionKind.FIRST
    row.checkpoint_id, row.updated_at = checkpoint.id, clock(session)
    session.add(
        Promotion(
            alias=alias,
            checkpoint_id=checkpoint.id,
            gate_id=authority.gate,
            kind=kind,
            by=authority.by[:200],
            reason=authority.reason,
            created_at=row.updated_at,
        )
    )
    facts: dict[str, audit.Fact] = {"to": names.title_of(session, checkpoint), "kind": kind}
    facts |= {"gate": authority.gate, "reason": authority.reason}
    audit.record(session, Action.ALIAS_MOVE, f"alias {alias}", facts)
    session.flush()
    session.refresh(row)
    return row


def check_name(alias: str) -> None:
    """Raise unless the alias name is valid."""
    if not re.fullmatch(NAME, alias):
        raise InputError(f"invalid alias name {alias!r}: use at most 100 letters, digits, '.', '_' and '-'")


def protect(session: Session, alias: str, policy: Policy, suites: Sequence[Suite], by: str) -> Protection:
    """Pin the policy whose decisions alone may move the alias from now on; an earlier pin ends.

    Raises:
        InputError: the alias name is invalid, or the same policy is already pinned.
    """
    check_name(alias)
    earlier = protection(session, alias, lock=True)
    suite_digest = _digest([suite.digest for suite in suites])
    if earlier and (earlier.policy_digest, earlier.suite_digest) == (policy.digest, suite_digest):
        raise InputError(f"alias {alias!r} is already protected by this policy ({policy.digest[:12]})")
    moment = clock(session)
    if earlier:
        earlier.ended_at, earlier.ended_by = moment, by[:200]
        session.flush()
    row = Protection(
        alias=alias,
        suite=_named([suite.id for suite in suites]),
        suite_digest=suite_digest,
        policy_digest=policy.digest,
        policy=policy.model_dump(mode="json", by_alias=True),
        by=by[:200],
        created_at=moment,
    )
    session.add(row)
    audit.record(session, Action.ALIAS_PROTECT, f"alias {alias}", {"policy": policy.digest[:12], "suite": row.suite})
    session.flush()
    return row


def unprotect(session: Session, alias: str, by: str) -> Protection:
    """End the alias's protection; its record is kept as history.

    Raises:
        InputError: the alias is not protected.
    """
    row = protection(session, alias, lock=True)
    if row is None:
        raise InputError(f"alias {alias!r} is not protected")
    row.ended_at, row.ended_by = clock(session), by[:200]
    facts: dict[str, audit.Fact] = {"policy": row.policy_digest[:12], "suite": row.suite}
    audit.record(session, Action.ALIAS_UNPROTECT, f"alias {alias}", facts)
    return row


def protection(session: Session, alias: str, *, lock: bool = False) -> Protection | None:
    """The current protection of an alias."""
    query = select(Protection).where(Protection.alias == alias, Protection.ended_at.is_(None))
    return session.scalar(query.with_for_update() if lock else query)


def check_policy(alias: str, pinned: Protection | None, digest: str) -> None:
    """Raise unless a decision under the policy with this digest could move the alias."""
    if pinned and digest != pinned.policy_digest:
        raise PromotionError(
            f"alias {alias!r} is protected by policy {pinned.policy_digest[:12]}, not by this one ({digest[:12]}): "
            f"use the pinned policy, or pin this one with 'evalsvc alias protect {alias} --policy FILE'"
        )


def _check_gate(
    session: Session, alias: str, row: Alias | None, checkpoint: Checkpoint, number: int, pinned: Protection | None
) -> None:
    """Raise unless this decision, together with those under the other suites of its policy, permits the alias to point
    to this checkpoint now.
    """
    gate = session.get(Gate, number)
    if gate is None:
        raise InputError(f"there is no gate {number}: 'evalsvc gate history' lists all gates")
    gates = _parts(session, gate)
    for each in gates:
        _check_decision(session, alias, row, checkpoint, each, pinned)
    part_of = gate.policy.get("part_of") or {}
    if len(gates) < part_of.get("suites", 1):
        raise PromotionError(
            f"gate {number} covers one of several suites, and the others were not judged: run the whole policy"
        )
    failed = session.scalar(
        select(Gate.id).where(
            Gate.checkpoint_id == gate.checkpoint_id,
            Gate.policy_digest == gate.policy_digest,
            Gate.status == "FAIL",
            Gate.shadow.is_(False),
            Gate.id > number,
        )
    )
    if failed:
        raise PromotionError(
            f"gate {failed} failed the checkpoint that gate {number} passed under the same policy: run the gate again"
        )
    check_policy(alias, pinned, part_of.get("digest", gate.policy_digest))
    found = _named([each.suite for each in gates]), _digest([each.evidence.get("suite_digest") for each in gates])
    if pinned and found != (pinned.suite, pinned.suite_digest):
        raise PromotionError(
            f"alias {alias!r} is protected under {pinned.suite} as pinned, and gate {number} used another suite, "
            "another version of its content, or an earlier evalsvc: run the gate again"
        )


def _parts(session: Session, gate: Gate) -> list[Gate]:
    """The gate, or the newest gate of each suite if its policy has several, in the order of the policy."""
    part_of = gate.policy.get("part_of")
    if not part_of:
        return [gate]
    query = select(Gate).where(Gate.checkpoint_id == gate.checkpoint_id, Gate.shadow.is_(False)).order_by(Gate.id)
    found = {gate.policy["part_of"]["place"]: gate}
    for each in session.scalars(query):
        other = each.policy.get("part_of") or {}
        if other.get("digest") == part_of["digest"]:
            found[other["place"]] = each
    return [found[place] for place in sorted(found)]


def _check_decision(
    session: Session, alias: str, row: Alias | None, checkpoint: Checkpoint, gate: Gate, pinned: Protection | None
) -> None:
    number, who = gate.id, names.title_of(session, checkpoint)
    if gate.status != "PASS":
        raise PromotionError(f"gate {number} is {gate.status}: only a passed gate can move an alias")
    if gate.shadow:
        raise PromotionError(f"gate {number} is a shadow gate, which cannot move an alias: run it without --shadow")
    if gate.checkpoint_id != checkpoint.id:
        raise PromotionError(f"gate {number} judged {names.titles_of_gates(session, [gate])[number]}, not {who}")
    moved = _last_move(session, alias, row)
    if moved and gate.created_at <= moved:
        raise PromotionError(
            f"gate {number} is older than the last move of {alias!r} ({moved:%Y-%m-%d %H:%M:%S}): run the gate again"
        )
    if (pinned and gate.policy.get("baseline")) or gate.policy.get("baseline") == {"alias": alias}:
        _check_baseline(session, alias, row, gate)


def _check_baseline(session: Session, alias: str, row: Alias | None, gate: Gate) -> None:
    """Raise unless the decision compared with the checkpoint that the alias points to now, or with none if it points to
    none.
    """
    compared: Mapping[str, Any] = gate.evidence
    if "baseline_ids" not in compared:
        raise PromotionError(
            f"gate {gate.id} was decided by an earlier evalsvc, which did not record its baseline: run the gate again"
        )
    if list(compared["baseline_ids"]) == ([row.checkpoint_id] if row else []):
        return
    current = names.title_of(session, row.checkpoint) if row else "nothing"
    raise PromotionError(
        f"gate {gate.id} used another baseline than the checkpoint that {alias!r} points to now ({current}): "
        "run the gate again"
    )


def _check_rollback(session: Session, alias: str, checkpoint: Checkpoint, reason: str, pinned: Protection) -> None:
    """Raise unless a protected alias may move back to this checkpoint."""
    if not reason.strip():
        raise PromotionError(
            f"alias {alias!r} is protected by policy {pinned.policy_digest[:12]} under {pinned.suite}: move it with a "
            "gate under that policy, or back to an earlier checkpoint with a reason"
        )
    before = select(Promotion.id).where(Promotion.alias == alias, Promotion.checkpoint_id == checkpoint.id)
    if session.scalar(before.limit(1)) is None:
        who = names.title_of(session, checkpoint)
        raise PromotionError(
            f"alias {alias!r} never pointed to {who}: a rollback requires an earlier checkpoint of the alias"
        )


def _named(suites: Sequence[str]) -> str:
    return ", ".join(suites)[:200]


def _digest(suites: Sequence[str | None]) -> str | None:
    """One digest for the contents of all suites: the suite's own digest if there is only one."""
    return suites[0] if len(suites) == 1 else digest_json(list(suites))


def _last_move(session: Session, alias: str, row: Alias | None) -> datetime | None:
    recorded = session.scalar(select(func.max(Promotion.created_at)).where(Promotion.alias == alias))
    return recorded or (row.updated_at if row else None)
