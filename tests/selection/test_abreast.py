"""Several threads at work, and moments when all of them stand still."""

import threading
import time

import pytest
import torch

from nastavnik.selection._abreast import Gate, side_by_side


def test_whoever_is_alone_sees_nobody_at_work() -> None:
    gate, at_work, seen, lock = Gate(), set(), [], threading.Lock()
    turns = iter(range(200))

    def work() -> None:
        own = threading.get_ident()
        while True:
            with lock:
                turn = next(turns, None)
            if turn is None:
                return
            at_work.add(own)
            time.sleep(0.0005)
            at_work.discard(own)
            if turn % 7 == 0:
                with gate.alone():
                    seen.append(len(at_work))
                    time.sleep(0.0005)
                    seen.append(len(at_work))
            else:
                gate.pass_by()

    side_by_side(work, 4, gate)
    assert len(seen) == 2 * 29
    assert set(seen) == {0}


def test_each_worker_has_one_thread_of_torch_and_afterwards_all_are_back() -> None:
    before, found = torch.get_num_threads(), []
    torch.set_num_threads(2)
    try:
        side_by_side(lambda: found.append(torch.get_num_threads()), 2, Gate())
        assert torch.get_num_threads() == 2
        side_by_side(lambda: found.append(torch.get_num_threads()), 1, Gate())
    finally:
        torch.set_num_threads(before)
    assert found == [1, 1, 2]


def test_an_error_of_one_worker_is_raised_when_the_others_are_done() -> None:
    done: list[int] = []

    def work() -> None:
        with lock:
            first = not done
            done.append(1)
        if first:
            raise RuntimeError("broken")

    lock = threading.Lock()
    with pytest.raises(RuntimeError, match="broken"):
        side_by_side(work, 3, Gate())
    assert len(done) == 3
