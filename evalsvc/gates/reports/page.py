"""A self-contained HTML report: verdict, intervals drawn to scale, sample grids. No scripts and no
external resources.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
from PIL import Image

from evalsvc.gates.reports.text import baseline, candidate, limit, mark, notices, plain, scoped, title, values

STYLE = """
:root{color-scheme:light dark;font:15px/1.5 system-ui,sans-serif}
body{max-width:64rem;margin:2rem auto;padding:0 1rem}
table{border-collapse:collapse;width:100%}
th,td{text-align:left;padding:.35rem .6rem;border-bottom:1px solid #8884;vertical-align:top}
.PASS{color:#1a7f37}.FAIL,.ERROR{color:#cf222e}.INCONCLUSIVE,.MISSING,.NOT_COMPARABLE{color:#9a6700}
svg{width:16rem;height:2rem}
figure{display:inline-block;margin:1rem 2rem 1rem 0}
img{image-rendering:pixelated;width:20rem}
"""
GUARD = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
WIDTH, HEIGHT, EDGE = 256.0, 32.0, 8.0


def page(document: Mapping[str, Any], grids: Mapping[str, np.ndarray] | None = None) -> str:
    """Render the report; ``grids`` maps a caption to uint8 images of shape (n, channels, height, width)."""
    verdict, evidence = document["verdict"], document["evidence"]
    status, shown = verdict["status"], title(document)
    said = "".join(f"<p><strong>{_text(notice)}</strong></p>" for notice in notices(document))
    rows = "".join(_rows(document, metric) for metric in verdict["metrics"])
    figures = "".join(
        f'<figure><img alt="samples" src="data:image/png;base64,{image_sheet(pixels)}">'
        f"<figcaption>{_text(name)}</figcaption></figure>"
        for name, pixels in (grids or {}).items()
    )
    items = "".join(map(_regressions, document.get("items", ())))
    warnings = "".join(f"<li>{_text(warning)}</li>" for warning in verdict["warnings"])
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{GUARD}">'
        f"<title>Gate {shown}</title><style>{STYLE}</style></head><body>"
        f'<h1 class="{status}">{mark(document)} Gate {shown}</h1>{said}<p>{_text(verdict["reason"], 2000)}</p>'
        f"<p>{_text(candidate(document))} against {_text(baseline(document))} under {_text(document['suite'])}, "
        f"decided{scoped(document)} on {evidence['samples']} samples; looks: {len(evidence['looks'])}; "
        f"policy {_text(document['policy_digest'][:12])}.</p>"
        "<table><thead><tr><th>score<th>candidate<th>baseline<th>limit<th>interval<th>status</thead>"
        f"<tbody>{rows}</tbody></table><ul>{warnings}</ul>{items}{figures}</body></html>\n"
    )


def _rows(document: Mapping[str, Any], metric: Mapping[str, Any]) -> str:
    mine, theirs = values(document, metric["metric"])
    seen = document["evidence"]["metrics"].get(metric["metric"], {})
    drawn = {each["kind"]: each for each in seen.get("comparisons", [])}
    limits = metric["limits"] or [{"kind": "", "limit": 0, "status": metric["status"], "reason": metric["reason"]}]
    cells = []
    for each in limits:
        words = limit(each["kind"], each["limit"]) if each["kind"] else "–"
        waived = " (waived)" if metric["waiver"] else ""
        shown = (
            f'<span class="{each["status"]}">{each["status"]}</span>{waived}<br><small>{_text(each["reason"])}</small>'
        )
        plot = _plot(drawn[each["kind"]]) if each["kind"] in drawn else ""
        cells.append(
            f"<tr><td>{_text(metric['metric'])}<br><small>{metric['tier']}</small><td>{mine}<td>{theirs}<td>{words}"
            f"<td>{plot}<td>{shown}</tr>"
        )
    return "".join(cells)


def _regressions(items: Mapping[str, Any]) -> str:
    """The items of one scorer that got worse most."""
    names = ("item", "prompt", "target", "baseline_answer", "candidate_answer")
    rows = "".join(
        f"<tr><td>{each['difference']:+.4g}{''.join(f'<td>{_text(each[name])}' for name in names)}</tr>"
        for each in items["regressions"]
    )
    return (
        f"<h2>Items that got worse by {_text(items['of'])}: {items['worse']} of {items['paired']}</h2>"
        "<table><thead><tr><th>change<th>item<th>prompt<th>target<th>baseline<th>candidate</thead>"
        f"<tbody>{rows}</tbody></table>"
    )


def _plot(comparison: Mapping[str, Any]) -> str:
    """The interval as a bar with its estimate, and the limit as a line, on one scale."""
    marks = [comparison[key] for key in ("low", "high", "estimate", "limit")]
    if any(isinstance(mark, str) for mark in marks):
        return ""
    low, high, estimate, bound = (float(mark) for mark in marks)
    start = min(low, bound)
    span = (max(high, bound) - start) or 1.0

    def at(value: float) -> float:
        return EDGE + (value - start) / span * (WIDTH - 2 * EDGE)

    return (
        f'<svg viewBox="0 0 {WIDTH:g} {HEIGHT:g}" role="img"><title>{low:.4g} to {high:.4g}, limit {bound:g}</title>'
        f'<line x1="{at(low):.1f}" x2="{at(high):.1f}" y1="16" y2="16" stroke="currentColor" stroke-width="4"/>'
        f'<circle cx="{at(estimate):.1f}" cy="16" r="5" fill="currentColor"/>'
        f'<line x1="{at(bound):.1f}" x2="{at(bound):.1f}" y1="2" y2="30" stroke="#cf222e" stroke-width="2"/></svg>'
    )


def image_sheet(pixels: np.ndarray, columns: int = 8) -> str:
    """A sheet of images as base64 PNG."""
    count, channels, height, width = pixels.shape
    rows: Sequence[int] = range(-(-count // columns))
    sheet = np.zeros((len(rows) * (height + 1), columns * (width + 1), channels), np.uint8)
    for index, image in enumerate(pixels):
        y, x = index // columns * (height + 1), index % columns * (width + 1)
        sheet[y : y + height, x : x + width] = image.transpose(1, 2, 0)
    content = io.BytesIO()
    Image.fromarray(sheet[:, :, 0] if channels == 1 else sheet).save(content, "PNG")
    return base64.b64encode(content.getvalue()).decode()


def _text(text: object, longest: int = 300) -> str:
    return escape(plain(text, longest))
