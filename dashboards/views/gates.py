"""Page "Gates": decisions over time, each with its evidence, limits, waivers and policy."""

from __future__ import annotations

import difflib
import shlex
from typing import Any

import streamlit as st
import yaml

from evalsvc.core.errors import printable
from evalsvc.dashboards import charts, context
from evalsvc.dashboards.formatting import MARKS, facts, grid, heading, html, number, safe
from evalsvc.dashboards.i18n import metric_name, say
from evalsvc.dashboards.url_state import choose
from evalsvc.gates.reports.text import limit, notices, qualifiers, scope, stored, title, values
from evalsvc.store import names, queries
from evalsvc.store.tables import Gate

SHOWN = 200


def page() -> None:
    """Render the page."""
    heading(say("gates.title"), say("gates.note"))
    context.suite()
    with context.read_transaction() as session:
        gates = queries.gates(session, limit=SHOWN)
        promotions = queries.promotions(session)
        titles = names.titles_of_gates(session, gates)
        aliased = names.titles(session, [promotion.checkpoint for promotion in promotions])
    if not gates:
        st.info(say("gates.empty"), icon=":material/gavel:")
        st.code("evalsvc gate run evalsvc-gate.yaml --candidate flow@4000", language="bash", wrap_lines=True)
        return
    rows = [
        {
            "at": gate.created_at.isoformat(),
            "model": gate.model,
            "status": gate.status,
            "name": titles[gate.id],
            "words": f"#{gate.id} {titles[gate.id]}: {gate.status}",
            "reason": gate.verdict["reason"][:160],
        }
        for gate in gates
    ]
    charts.show(charts.timeline(rows), rows, "gates", say("gates.drawn", count=len(rows)))
    by_number = {str(gate.id): gate for gate in gates}
    number_ = choose("gate", say("gates.choose"), list(by_number), words=lambda n: _line(by_number[n], titles[int(n)]))
    gate = by_number[number_]
    _verdict(gate, titles[gate.id])
    _limits(gate)
    left, right = st.columns(2, gap="large")
    with left:
        _waivers(gate)
        _policy(gate, [other for other in gates if other.id < gate.id and other.model == gate.model])
    with right:
        st.header(say("gates.promotions"), anchor=False)
        grid(
            [
                {
                    say("common.alias"): p.alias,
                    say("common.checkpoint"): aliased[p.checkpoint_id],
                    say("gates.how"): say(f"gates.moved_{p.kind}"),
                    say("gates.by"): p.gate_id,
                    say("gates.who"): p.by or "–",
                    say("gates.reason"): p.reason or "–",
                    say("gates.when"): p.created_at,
                }
                for p in promotions
            ],
            alt=say("gates.promotions"),
        )
        _calibration(gate, titles[gate.id])


def _line(gate: Gate, name: str) -> str:
    outcome = title(stored(gate))
    return f"#{gate.id} · {MARKS[gate.status]} {outcome} · {name} · {gate.created_at:%Y-%m-%d %H:%M}"


def _verdict(gate: Gate, name: str) -> None:
    color = charts.STATUS[gate.status]
    document = stored(gate)
    said = qualifiers(document)
    words = {"no baseline": "no_baseline"}
    chips = "".join(f' <span class="ev-chip">{say(f"gates.{words.get(each, each)}")}</span>' for each in said)
    st.html(
        f'<div class="ev-card" style="border-left:6px solid {color}">'
        f'<p class="ev-kicker">{html(gate.suite)} · #{gate.id}</p>'
        f'<p class="ev-big">{MARKS[gate.status]} {gate.status.replace("_", " ")}{chips}</p>'
        f'<p class="ev-number">{html(name)} {say("gates.against")} {html(gate.baseline or "–")}</p>'
        f'<p class="ev-note">{html(gate.verdict["reason"], 1000)}</p></div>'
    )
    for warning in (*notices(document), *gate.verdict["warnings"]):
        st.warning(safe(warning, 500), icon=":material/warning:")


def _limits(gate: Gate) -> None:
    document = {"evidence": gate.evidence, "verdict": gate.verdict}
    table, chart_rows = [], []
    for metric in gate.verdict["metrics"]:
        mine, theirs = values(document, metric["metric"])
        seen = gate.evidence["metrics"].get(metric["metric"], {})
        compared = {each["kind"]: each for each in seen.get("comparisons", [])}
        for each in metric["limits"] or [
            {"kind": "", "limit": 0.0, "status": metric["status"], "reason": metric["reason"]}
        ]:
            words = limit(each["kind"], each["limit"]) if each["kind"] else "–"
            table.append(
                {
                    say("common.metric"): metric_name(metric["metric"]),
                    say("gates.candidate"): mine,
                    say("gates.baseline"): theirs,
                    say("gates.limit"): words,
                    say("gates.status"): f"{MARKS[each['status']]} {each['status']}"
                    + (f" ({say('gates.waived')})" if metric["waiver"] else ""),
                    say("gates.tier"): metric["tier"],
                    say("gates.reason"): each["reason"],
                }
            )
            chart_rows += _chart_rows(metric_name(metric["metric"]), words, each["status"], compared.get(each["kind"]))
    grid(table, alt=say("gates.evidence"))
    if chart_rows:
        st.header(say("gates.evidence"), anchor=False)
        charts.show(
            charts.forest(chart_rows, say("gates.scaled"), rules=[0.0], colors=charts.STATUS),
            chart_rows,
            "evidence",
            say("gates.evidence"),
        )
        st.caption(say("gates.scaled_note"))
    looks = gate.evidence["looks"]
    st.caption(say("gates.looks", samples=f"{gate.evidence['samples']:,}", looks=len(looks)))
    if scope({**document, "policy": gate.policy}):
        st.caption(say(f"gates.scope_{gate.policy.get('reference', 'fixed')}"))


def _chart_rows(name: str, words: str, status: str, compared: dict[str, Any] | None) -> list[dict[str, Any]]:
    """The interval on a scale where 0 is the limit and 1 is the width of the interval, with worse
    values to the right.
    """
    if compared is None or any(
        isinstance(compared[key], str) or compared[key] is None for key in ("low", "high", "estimate", "limit")
    ):
        return []
    width = (compared["high"] - compared["low"]) or 1.0
    sign = -1 if compared["kind"] == "min" else 1
    low, value, high = (sign * (compared[key] - compared["limit"]) / width for key in ("low", "estimate", "high"))
    return [
        {"name": f"{name}, {words}", "value": value, "low": min(low, high), "high": max(low, high), "group": status}
    ]


def _waivers(gate: Gate) -> None:
    waivers = gate.policy.get("waivers") or []
    if waivers:
        st.header(say("gates.waivers"), anchor=False)
        grid(waivers, alt=say("gates.waivers"))


def _policy(gate: Gate, before: list[Gate]) -> None:
    st.header(say("gates.policy"), anchor=False)
    facts(
        {
            say("gates.digest"): gate.policy_digest[:12],
            say("gates.exit_code"): gate.exit_code,
            "commit": gate.evidence.get("git_commit") or "–",
        }
    )
    now = yaml.safe_dump(gate.policy, sort_keys=False, allow_unicode=True)
    other = next((each for each in before if each.policy_digest != gate.policy_digest), None)
    if other is not None:
        old = yaml.safe_dump(other.policy, sort_keys=False, allow_unicode=True)
        changed = list(
            difflib.unified_diff(
                old.splitlines(), now.splitlines(), f"gate {other.id}", f"gate {gate.id}", lineterm="", n=2
            )
        )
        st.caption(say("gates.changed", number=other.id))
        st.code(printable("\n".join(changed)), language="diff", wrap_lines=True)
    with st.expander(say("gates.whole_policy")):
        st.code(printable(now), language="yaml", wrap_lines=True)


def _calibration(gate: Gate, name: str) -> None:
    """Calibration of the policy against noise, from stored runs with several seeds."""
    from evalsvc.analysis.runs import stored_runs
    from evalsvc.core.errors import InputError
    from evalsvc.gates.calibrate import calibrate
    from evalsvc.gates.policy import Policy
    from evalsvc.inputs.suites import Suite
    from evalsvc.store.tables import Checkpoint, now

    st.header(say("gates.calibration"), anchor=False)
    try:
        with context.read_transaction() as session:
            if gate.checkpoint_id is None:
                raise InputError(f"gate {gate.id} has no checkpoint")
            checkpoint = session.get_one(Checkpoint, gate.checkpoint_id)
            suite = Suite.model_validate(queries.suite_body(session, gate.suite))
            runs = stored_runs(session, context.artifacts(), checkpoint, suite.id)
        found = calibrate(Policy.model_validate(gate.policy), suite, runs, now().date())
    except (InputError, ValueError):
        st.caption(say("gates.no_calibration"))
        st.code(
            f"evalsvc gate calibrate evalsvc-gate.yaml --candidate {printable(shlex.quote(name))}",
            language="bash",
            wrap_lines=True,
        )
        return
    st.caption(say("gates.calibrated", runs=found.runs, failed=f"{found.failed:.0%}", unsure=f"{found.unsure:.0%}"))
    grid(
        [
            {
                say("common.metric"): metric_name(n.metric),
                say("gates.spread"): number(n.spread),
                say("gates.detectable"): number(n.detectable),
                say("gates.margin"): number(n.margin),
            }
            for n in found.noise
        ],
        alt=say("gates.calibration"),
    )


page()
