"""What a job leaves as it found it, and how the system's own complaints are told."""

from __future__ import annotations

import random
import signal
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from nastavnik.errors import UserError, complaint


@contextmanager
def a_job() -> Iterator[None]:
    """Around a job: the caller's states are put back, and do not matter inside; a file's trouble is a ``UserError``."""
    with undisturbed():
        try:
            yield
        except OSError as error:
            sentence = complaint(error)
            if sentence is None:
                raise
            raise UserError(sentence) from error


@contextmanager
def undisturbed() -> Iterator[None]:
    """Random generators, torch's default type, threads, determinism and gradient mode, warnings and signals kept."""
    import numpy as np
    import torch

    drawn = random.getstate(), np.random.get_state(), torch.get_rng_state()
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() and torch.cuda.is_initialized() else []
    dtype, threads = torch.get_default_dtype(), torch.get_num_threads()
    strict = _determinism()
    handlers = _handlers()
    try:
        torch.set_default_dtype(torch.float32)
        with warnings.catch_warnings(), np.errstate(), torch.inference_mode(False), torch.enable_grad():
            yield
    finally:
        torch.set_default_dtype(dtype)
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        if strict != _determinism():  # setting it imports torch's compiler, two seconds
            torch.use_deterministic_algorithms(strict[0], warn_only=strict[1])
        random.setstate(drawn[0])
        np.random.set_state(drawn[1])
        torch.set_rng_state(drawn[2])
        if cuda:
            torch.cuda.set_rng_state_all(cuda)
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _determinism() -> tuple[bool, bool]:
    import torch

    return torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()


def _handlers() -> dict[signal.Signals, Any]:
    """Python's own handlers; only the main thread may set them back."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    found = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    return {number: handler for number, handler in found.items() if handler is not None}
