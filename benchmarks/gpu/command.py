"""What the command lines of the check and of the benchmark share: options, the device, a folder."""

from __future__ import annotations

import argparse
import logging
import os
import tempfile
import warnings
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from unittest import mock

import torch


def parsed(
    about: str | None, parts: Collection[str], seconds: float, arguments: Sequence[str] | None, *, quick: bool = False
) -> argparse.Namespace:
    """The options; ``only`` becomes a list, empty for all parts. ``quick`` adds the option of that name."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1, cpu, or pretended: that of the tests")
    parser.add_argument("--only", default="", help=f"parts, of {', '.join(parts)}")
    parser.add_argument("--budget", type=float, default=seconds, help="seconds, after which the rest is skipped")
    parser.add_argument("--out", type=Path, default=Path(os.environ.get("OUT", "build/gpu")), help="folder of results")
    if quick:
        parser.add_argument("--quick", action="store_true", help="small arrays, and parts that end within seconds")
    given = parser.parse_args(arguments)
    given.only = given.only.split(",") if given.only else []
    if unknown := sorted(set(given.only) - set(parts)):
        parser.error(f"there is no part {unknown[0]!r}: use {', '.join(parts)}")
    return given


@contextmanager
def opened(name: str) -> Iterator[tuple[torch.device, Path]]:
    """The device of a name, and a temporary folder; warnings and logs are silent within."""
    with ExitStack() as stack:
        stack.enter_context(torch.no_grad())
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        stack.callback(logging.disable, logging.root.manager.disable)
        logging.disable(logging.WARNING)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        # Where evaluations keep the backends and factorizations that they choose by measurement.
        stack.enter_context(mock.patch.dict(os.environ, EVALSVC_HOME=str(folder / "choices")))
        if name != "pretended":
            yield _device(name), folder
            return
        from tests.pretended_device import PretendedDevice

        yield stack.enter_context(PretendedDevice()).device, folder


def _device(name: str) -> torch.device:
    """The device of a name, with its number."""
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        reason = str(error).partition("\n")[0]
        raise SystemExit(f"device {name!r} cannot be used here ({reason}): pass another with --device") from None


def is_card(device: torch.device) -> bool:
    """Whether the device is a card of this machine, not a processor and not pretended."""
    return device.type == "cuda" and torch.cuda.is_available()


def described(device: torch.device) -> str:
    """A device and what drives it, in words."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{torch.get_num_threads()} threads"
    cudnn = f", cuDNN {torch.backends.cudnn.version()}" if is_card(device) else ""
    return f"{device}: {name}, torch {torch.__version__}{cudnn}"
