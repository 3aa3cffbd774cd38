"""Numbers for people."""

from __future__ import annotations


def number(value: float | None) -> str:
    """Four significant digits, without an exponent where it reads well without."""
    if value is None:
        return "–"
    return f"{value:.4g}" if 1e-4 <= abs(value) < 1e6 or value == 0 else f"{value:.3e}"


def with_error(value: float, stderr: float | None) -> str:
    """``12.34 ± 0.25``: the standard error to two digits, the value to the same place."""
    if stderr is None or stderr == 0:
        return number(value)
    if not 1e-4 <= stderr < 1e6:
        return f"{number(value)} ± {stderr:.1e}"
    places = max(0, 1 - len(f"{stderr:.0f}") + 1) if stderr >= 1 else -int(f"{stderr:e}".partition("e")[2]) + 1
    return f"{value:.{places}f} ± {stderr:.{places}f}"


def with_both_errors(
    value: float, stderr: float | None, stderr_reference: float | None, target: float | None = None
) -> str:
    """``12.34 ± 0.25, reference ± 0.31 (right: 14.1)``: also what the choice of the reference's rows adds, where that
    is known, and the right value, where there is one.
    """
    own = with_error(value, stderr)
    if stderr and stderr_reference:
        own += f", reference ± {with_error(value, stderr_reference).rpartition(' ± ')[2]}"
    return own if target is None else f"{own} (right: {number(target)})"
