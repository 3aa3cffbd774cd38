"""Processes that are forked from one that evaluated."""

from __future__ import annotations

import gc
import os
from functools import cache


@cache
def keep_garbage_in_forks() -> None:
    """From now on, forked processes never free what this process left as garbage.

    Models of C++ libraries (CTranslate2, OpenVINO) join their threads when they are freed. In a forked process, such as
    a worker of a trainer's ``DataLoader``, these threads do not exist: it would crash or hang.
    """
    os.register_at_fork(after_in_child=gc.freeze)
