"""Tests that need namespaces, which the kernel of some containers does not allow."""

from __future__ import annotations

import subprocess

import pytest


def _allowed() -> bool:
    """Whether util-linux can do here what a program of a model needs; a fault of ours must not skip its own tests."""
    inside = ["sh", "-c", "mount -t tmpfs none /mnt && mount -o remount,ro,bind /mnt"]
    try:
        command = ["unshare", "--user", "--map-root-user", "--mount", "--pid", "--net", "--ipc", "--uts", "--fork"]
        return subprocess.run([*command, *inside], capture_output=True, timeout=20).returncode == 0
    except FileNotFoundError:
        return True


needs_namespaces = pytest.mark.skipif(not _allowed(), reason="this machine does not allow namespaces")
