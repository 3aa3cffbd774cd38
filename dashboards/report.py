"""A self-contained HTML report of a checkpoint for printing and e-mail. No scripts and no external resources."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence

from evalsvc.analysis.composite_index import CompositeScore
from evalsvc.analysis.leaderboard import interval_of
from evalsvc.dashboards import pictures
from evalsvc.dashboards.formatting import ARROWS, html, interval, number, with_error
from evalsvc.dashboards.i18n import metric_name, say
from evalsvc.store.queries import ScoreRow

STYLE = """
@page{margin:14mm}
:root{font:14px/1.5 system-ui,sans-serif;color:#1a1f2b}
body{max-width:60rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.9rem;margin:0 0 .2rem;overflow-wrap:anywhere}h2{font-size:1.15rem;margin:1.6rem 0 .4rem}
p{margin:.2rem 0}.muted{color:#565d6b}
table{border-collapse:collapse;width:100%}
th,td{text-align:left;padding:.3rem .6rem;border-bottom:1px solid #d9dee7;overflow-wrap:anywhere}
td.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
.index{font-size:2.6rem;font-weight:700}.bar{background:#e6ebf2;height:.7rem;border-radius:9px;min-width:9rem}
.bar i{display:block;background:#0063a6;height:100%;border-radius:9px}
img{image-rendering:pixelated;width:100%;margin:.3rem 0}
"""
GUARD = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def report(
    name: str,
    suite: str,
    scores: Sequence[ScoreRow],
    index: CompositeScore | None,
    verdicts: Sequence[tuple[int, str, str]],
    facts: Mapping[str, object],
    gallery: pictures.Gallery,
) -> str:
    """Render the report. ``verdicts`` are gates: number, status and reason."""
    parts = [f"<h1>{html(name)}</h1><p class=muted>{html(suite)} · {html(facts.get('date', ''))}</p>"]
    if index is not None:
        ends = interval(*index.interval) if index.interval else "–"
        rows = "".join(
            f"<tr><td>{html(metric_name(part.label))}<td class=n>{part.share:.0%}<td class=n>{part.points:.1f}"
            f'<td><div class=bar><i style="width:{part.points:.0f}%"></i></div>'
            for part in index.parts
        )
        parts.append(
            f"<h2>{say('scorecard.index')}</h2><p><span class=index>{index.value:.1f}</span> / 100 · "
            f"{say('common.interval')} {ends}</p><table><tr><th>{say('common.metric')}<th>{say('scorecard.weight')}"
            f"<th>{say('scorecard.points')}<th></tr>{rows}</table>"
        )
    for gate, status, reason in verdicts:
        parts.append(f"<p><b>{say('gates.title')} {gate}: {html(status)}</b> {html(reason, 500)}</p>")
    rows = "".join(
        f"<tr><td>{html(metric_name(row.label))} {ARROWS[row.direction]}<td class=n>{with_error(row.value, row.stderr)}"
        f"<td class=n>{interval(*interval_of(row, 'sampled'))}<td>{html(row.unit)}<td class=n>{row.n:,}"
        f"<td>{html(row.protocol)}"
        for row in scores
    )
    heads = ("common.metric", "common.value", "common.interval", "checkpoint.unit")
    parts.append(
        f"<h2>{say('checkpoint.scores')}</h2><table><tr>{''.join(f'<th>{say(head)}' for head in heads)}<th>n"
        f"<th>{say('checkpoint.protocol')}</tr>{rows}</table>"
    )
    if gallery.pixels is not None and gallery.pixels.ndim == 4:
        sheet = base64.b64encode(pictures.strip(gallery.pixels[:32], 16, 64)).decode()
        parts.append(f'<h2>{say("samples.title")}</h2><img alt="" src="data:image/png;base64,{sheet}">')
    elif gallery.texts:
        parts += [f"<h2>{say('samples.title')}</h2>", *(f"<p>{html(text, 400)}</p>" for text in gallery.texts[:4])]
    rows = "".join(
        f"<tr><th>{html(key)}<td>{html(number(v) if isinstance(v, float) else v)}" for key, v in facts.items()
    )
    parts.append(f"<h2>{say('checkpoint.provenance')}</h2><table>{rows}</table>")
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><meta http-equiv="Content-Security-Policy" '
        f'content="{GUARD}"><title>{html(name)}</title><style>{STYLE}</style></head><body>{"".join(parts)}</body></html>\n'
    )
