"""Work on several populations side by side, a thread each, with moments when all of it stands still."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import torch


class Gate:
    """Keeps workers apart from what must see all of their work at rest: a worker passes it several times a second."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._working = 0
        self._closed = False

    def __enter__(self) -> Gate:
        with self._changed:
            while self._closed:
                self._changed.wait()
            self._working += 1
        return self

    def __exit__(self, *error: object) -> None:
        with self._changed:
            self._working -= 1
            self._changed.notify_all()

    def pass_by(self) -> None:
        """Wait here while somebody needs everything at rest."""
        if self._closed:
            self.__exit__()
            self.__enter__()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """For a worker inside: all others wait meanwhile, where they pass by."""
        self.__exit__()
        with self._changed:
            while self._closed:
                self._changed.wait()
            self._closed = True
            while self._working:
                self._changed.wait()
        try:
            yield
        finally:
            with self._changed:
                self._closed = False
                self._working += 1
                self._changed.notify_all()


def side_by_side(work: Callable[[], None], workers: int, gate: Gate) -> None:
    """Call ``work`` in so many threads at once, each with one thread of torch's; their first error is raised.

    With one worker it is called here, with all of torch's threads.
    """
    if workers == 1:
        with gate:
            work()
        return

    def one() -> None:
        with gate:
            work()

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(workers) as pool:
            for job in [pool.submit(one) for _ in range(workers)]:
                job.result()
    finally:
        torch.set_num_threads(threads)
