"""Evaluation and benchmarking of generative models: the service."""

from __future__ import annotations

from typing import Any

__all__ = ["Client"]


def __getattr__(name: str) -> Any:
    """``evalsvc.Client``, imported when it is first asked for: no command waits for it."""
    if name == "Client":
        from evalsvc.client import Client

        return Client
    raise AttributeError(f"module 'evalsvc' has no attribute {name!r}")
