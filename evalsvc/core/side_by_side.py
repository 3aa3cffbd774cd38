"""Functions that run side by side in threads, until one of them fails."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait

Work = Callable[[], None]


def side_by_side(own: Work, others: Sequence[Work], halt: Work) -> None:
    """Run ``own`` in this thread and ``others`` in threads of their own. After the first error, or Ctrl-C, ``halt`` is
    called to make the rest end, and it is raised when all have ended.
    """
    errors: list[BaseException] = []

    def guarded(work: Work) -> None:
        try:
            work()
        except BaseException as error:
            errors.append(error)
            halt()

    with ThreadPoolExecutor(max(1, len(others))) as threads:

        def work() -> None:
            started = [threads.submit(guarded, other) for other in others]
            own()
            wait(started)

        guarded(work)
    if errors:
        raise errors[0]
