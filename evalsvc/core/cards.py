"""Cards: devices as users name them, and processes that see one card only."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from itertools import takewhile

from pydantic import BaseModel, ConfigDict

from evalsvc.core.errors import InputError

VISIBLE = "CUDA_VISIBLE_DEVICES"
VISIBLE_AMD = "HIP_VISIBLE_DEVICES"
"""Has precedence over the other variable in a build of torch for AMD."""


class Card(BaseModel):
    """A device by the name that the user gave, and by the name that a process uses for it.

    ``variables`` belong in the environment of a process that sees no other card, so that a plug-in's ``cuda`` is this
    one. ``processes`` is the number of processes that the user started on this device.
    """

    model_config = ConfigDict(frozen=True)

    name: str = "auto"
    device: str = "auto"
    variables: dict[str, str] = {}
    processes: int = 1


def count_cards() -> int:
    """The number of CUDA devices, counted by another process: this one shall not keep torch and a CUDA context."""
    count = "import torch; print(torch.cuda.device_count())"
    return int(subprocess.run([sys.executable, "-P", "-c", count], capture_output=True, text=True, check=True).stdout)


def cards_of(
    names: str, environment: Mapping[str, str] = os.environ, count: Callable[[], int] = count_cards
) -> tuple[Card, ...]:
    """Cards by their names, separated by commas; ``auto`` is every CUDA device, or the best other device.

    ``cuda:1`` is the second card that this process sees: with ``CUDA_VISIBLE_DEVICES=2,3`` it is card 3. Names that
    begin with ``GPU-`` or ``MIG-`` are UUIDs of the driver. ``CUDA_DEVICE_ORDER`` is inherited, so numbers keep their
    meaning. A name that occurs twice gets two processes.

    Raises:
        InputError: no name is given, a card does not exist, or a card may be meant by two kinds of names.
    """
    asked = [name.strip() for name in names.split(",") if name.strip()]
    if not asked:
        raise InputError("--devices is empty: use cuda:0, cpu or auto")
    if "auto" in asked and len(asked) > 1:
        raise InputError(f"--devices {names}: 'auto' is every GPU: use it alone, or name the devices")
    numbered = [name for name in asked if _number(name) is not None]
    unique = [name for name in asked if name.startswith(("GPU-", "MIG-"))]
    if numbered and unique:
        raise InputError(
            f"--devices: {numbered[0]} and {unique[0]} may be the same card: use numbers or UUIDs, not both"
        )
    seen = _seen(environment, count) if numbered or asked == ["auto"] else ()
    if asked == ["auto"]:
        asked = [f"cuda:{number}" for number in range(len(seen))] or asked
    cards = [_card(name, seen, environment) for name in asked]
    processes = Counter(map(_place, cards))
    return tuple(card.model_copy(update={"processes": processes[_place(card)]}) for card in cards)


def _card(name: str, seen: tuple[str, ...], environment: Mapping[str, str]) -> Card:
    number = _number(name)
    if number is not None and number >= len(seen):
        there = f"the last card here is cuda:{len(seen) - 1}" if seen else "torch sees no CUDA device here"
        raise InputError(f"--devices {name}: {there}: name another device, or use auto")
    if number is not None:
        visible = seen[number]
    elif name.startswith(("GPU-", "MIG-")):
        visible = name
    else:
        return Card(name=name, device=name)
    variables = {VISIBLE: visible, **({VISIBLE_AMD: visible} if VISIBLE_AMD in environment else {})}
    return Card(name=name, device="cuda", variables=variables)


def _number(name: str) -> int | None:
    found = re.fullmatch(r"cuda(?::(\d+))?", name)
    return int(found[1] or 0) if found else None


def _place(card: Card) -> tuple[str, str]:
    return card.device.removesuffix(":0"), card.variables.get(VISIBLE, "")


def _seen(environment: Mapping[str, str], count: Callable[[], int]) -> tuple[str, ...]:
    """The cards that this process sees, in its order, by the names that make another process see them."""
    listed = environment.get(VISIBLE_AMD, environment.get(VISIBLE))
    if listed is None:
        return tuple(map(str, range(count())))
    # CUDA ignores what follows an entry that is empty or negative.
    entries = tuple(takewhile(lambda entry: entry and not entry.startswith("-"), map(str.strip, listed.split(","))))
    # A process can use one MIG instance, so torch counts one, but several processes can use one each.
    return entries if listed.startswith("MIG-") or not entries else entries[: count()]
