"""Under a budget of time the step is compiled beside the training, and never holds it up."""

import os
import sys
import time
from pathlib import Path

import pytest
from worlds import make, make_data

from nastavnik.compiler import Ended, NotCompilable
from nastavnik.compiler._running import run_unless
from nastavnik.population import _choice, _meanwhile
from nastavnik.population._ways import Compiled
from nastavnik.runs import Clock, Deadline


def gone(pid: int) -> bool:
    """It is dead; one that was killed may take a moment."""
    for _ in range(100):
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.05)
    return False


@pytest.fixture
def slow_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A C compiler that sleeps in a child of its own and leaves both numbers in a file."""
    script, pids = tmp_path / "cc", tmp_path / "pids"
    script.write_text(f'#!/bin/sh\n[ "$1" = --version ] && exit 0\nsleep 60 &\necho $$ $! >> {pids}\nwait\n')
    script.chmod(0o755)
    monkeypatch.setenv("CC", str(script))
    monkeypatch.setenv("NASTAVNIK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(_meanwhile, "PACE", _meanwhile.Pace())
    monkeypatch.setattr(_choice, "PACE", _meanwhile.PACE)
    monkeypatch.setattr(_choice, "_COMPILATION", -1e9)  # it seems worth while
    _meanwhile.PACE.each = 0.0
    return pids


def test_a_compiler_that_sleeps_holds_nothing_up(slow_compiler: Path) -> None:
    population = make([{}, {"seed": 1}], make_data(), steps=40, measure=True)
    population.train(20, Deadline(Clock(budget=1e6)))
    for _ in range(200):  # the compiler is begun by a thread
        if slow_compiler.exists():
            break
        time.sleep(0.05)
    assert population.step == 20
    assert population.way == "batched"
    assert "being compiled" in population.words
    population.train(40, Deadline(Clock(budget=1e6)))
    outcomes = population.harvest()
    assert {o.steps for o in outcomes} == {40}
    assert all(gone(int(pid)) for pid in slow_compiler.read_text().split())  # with its child


def test_it_is_ended_when_the_time_is_over(slow_compiler: Path) -> None:
    clock = Clock(budget=1e6)
    population = make([{}], make_data(), steps=40, measure=True, engine="auto")
    population.train(10, Deadline(clock))
    clock.budget = 0.0
    assert population._way is not None
    thread = population._way._thread  # type: ignore[attr-defined]
    thread.join(20)
    assert not thread.is_alive()


def test_no_compilation_is_begun_that_would_take_most_of_the_time(slow_compiler: Path) -> None:
    _meanwhile.PACE.each = 1.0
    population = make([{}], make_data(), steps=40, measure=True)
    population.train(10, Deadline(Clock(budget=1e6)))
    assert population.words in ("batched", "one network after the other")
    assert not slow_compiler.exists()


def test_compiled_by_order_says_so_when_the_time_is_over(slow_compiler: Path) -> None:
    population = make([{}], make_data(), steps=40, measure=True, engine="compiled")
    with pytest.raises(NotCompilable, match="the time was over before the step was compiled"):
        population.train(10, Deadline(Clock(budget=0.0)))


def test_training_switches_once_the_step_is_compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ctypes")
    monkeypatch.setenv("NASTAVNIK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(_choice, "_COMPILATION", -1e9)
    monkeypatch.setattr(_meanwhile.PACE, "each", 0.0)
    # whichever is faster on this machine now, the compiled way shall seem so
    monkeypatch.setattr(_choice, "_trial", lambda way, state, stretch, times=2: 1.0 if isinstance(way, Compiled) else 2)
    reference = make([{}, {"seed": 1}], make_data(), steps=60, engine="batched")
    reference.train(60)
    population = make([{}, {"seed": 1}], make_data(), steps=60, measure=True)
    population.train(20, Deadline(Clock(budget=1e6)))
    assert population._way is not None
    thread = population._way._thread  # type: ignore[attr-defined]
    if thread is not None:  # it may have been done before the first steps were
        thread.join(120)
    population.train(60, Deadline(Clock(budget=1e6)))
    assert population.way == "compiled"
    assert population.words.startswith("compiled in")
    for mine, other in zip(population.harvest(), reference.harvest(), strict=True):
        assert mine.score == pytest.approx(other.score, rel=1e-4)


def test_a_program_is_ended_with_its_children(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    command = ["/bin/sh", "-c", f"sleep 60 & echo $$ $! > {pids}; wait"]
    with pytest.raises(Ended):
        run_unless(lambda: pids.exists() and len(pids.read_text().split()) == 2, command)
    assert all(gone(int(pid)) for pid in pids.read_text().split())
    assert run_unless(lambda: False, [sys.executable, "-c", "import sys; print('why', file=sys.stderr); sys.exit(3)"])[
        1
    ].startswith("why")
    assert os.path.exists("/bin/sh")
