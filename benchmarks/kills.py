"""Is anything lost, mixed or hidden by a kill? Commands killed at their renamings and at random moments.

python benchmarks/kills.py --renamings 60 --random 60

Each command (fit, fit --force over a run, fit --resume of a killed and of a finished run, check, compare, predict
--out) is killed by a shim at its n-th renaming, before or after it, or after a random time. Then what is there must be
the old files or the new ones, never some of each; the same command again must end in the bytes of the run that nobody
killed; other people's files are untouched, and no hidden name is left.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from damage import (
    Ended,
    Worlds,
    command,
    fit_words,
    killing,
    leftovers,
    make_worlds,
    outcome,
    renamings,
    without_seconds,
)

OTHERS = {"thesis.doc": "mine", "predictions.csv": "mine", "model/notes.txt": "mine"}


@dataclass(frozen=True)
class Scene:
    """A command that is killed: on which world, its words, and the words that end its work after a kill.

    ``looks`` is what must repeat.
    """

    name: str
    world: str | None
    words: Callable[[Worlds, Path], list[str]]
    again: Callable[[Worlds, Path], list[str]]
    looks: Callable[[Path], Any]
    seen: dict[str, Any] = field(default_factory=dict)  # old and new, as nobody disturbed them


def _resume(worlds: Worlds, run: Path) -> list[str]:
    return ["fit", "--resume", str(run), "--quiet"]


def _longer(worlds: Worlds, run: Path) -> list[str]:
    return ["fit", "--resume", str(run), "--quiet", "--networks", "6"]


def _force(worlds: Worlds, run: Path) -> list[str]:
    return fit_words(worlds, run, 1, "--force")


def _fresh(worlds: Worlds, run: Path) -> list[str]:
    return fit_words(worlds, run, 0)


def _fresh_again(worlds: Worlds, run: Path) -> list[str]:
    return _resume(worlds, run) if (run / "run.json").exists() else _fresh(worlds, run)


def _check(worlds: Worlds, run: Path) -> list[str]:
    return ["check", str(run), "--quiet"]


def _compare(worlds: Worlds, run: Path) -> list[str]:
    return ["compare", str(run), "--criteria", "validation", "--quiet"]


def _predict(worlds: Worlds, run: Path) -> list[str]:
    return ["predict", str(run), str(worlds.table), "--out", str(run / "p.csv"), "--force"]


def _delivered(run: Path) -> Any:
    """A run's outcome, if it has one; the files of one are never without the others."""
    names = ("result.json", "networks.csv", "report.html", "model/model.json", "model/model.safetensors")
    there = [(run / name).exists() for name in names]
    if not any(there):
        return None
    return outcome(run)[:4] if all(there) else f"only some of {names}: {there}"


def _found(name: str) -> Callable[[Path], Any]:
    def look(run: Path) -> Any:
        path = run / name
        own = path.read_text() if path.exists() else ""
        record = without_seconds(json.loads(own)) if own and name.endswith(".json") else own
        return record or None, _delivered(run)

    return look


SCENES = (
    Scene("fit", None, _fresh, _fresh_again, _delivered),
    Scene("fit --force", "finished", _force, _force, _delivered),
    Scene("fit --resume of a killed run", "killed", _resume, _resume, _delivered),
    Scene("fit --resume of a finished run", "finished", _longer, _longer, _delivered),
    Scene("check", "finished", _check, _check, _found("findings.json")),
    Scene("compare", "finished", _compare, _compare, _found("compare.json")),
    Scene("predict --out", "finished", _predict, _predict, _found("p.csv")),
)


def set_up(scene: Scene, worlds: Worlds, place: Path) -> Path:
    """The world that the command meets."""
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    run = place / "run"
    if scene.world is not None:
        worlds.copy(scene.world, run)
        (run / "model").mkdir(exist_ok=True)
        for name, content in OTHERS.items():
            (run / name).write_text(content)
    return run


def undisturbed(scene: Scene, worlds: Worlds, place: Path) -> float:
    """Remember what stands before and after; the seconds it takes."""
    run = set_up(scene, worlds, place)
    scene.seen["old"] = scene.looks(run)
    ended = command(scene.words(worlds, run))
    if ended.code != 0:
        raise RuntimeError(f"{scene.name}: {ended}")
    scene.seen["new"] = scene.looks(run)
    return ended.seconds


def after(scene: Scene, worlds: Worlds, run: Path) -> list[str]:
    """What is wrong after a kill, now and when the work is ended."""
    faults = []
    settled = command(["predict", str(run), str(worlds.table)])  # any command settles what was left
    if settled.code not in (0, 2) or "Traceback" in settled.err:
        faults.append(f"predict after the kill: {settled.code} {settled.err[-300:]}")
    if scene.looks(run) not in (scene.seen["old"], scene.seen["new"], None):
        faults.append(f"neither the old nor the new: {str(scene.looks(run))[:300]}")
    if (run / "run.json").exists() and leftovers(run):
        faults.append(f"left after the next command: {leftovers(run)}")
    ended: Ended = command(scene.again(worlds, run))
    if ended.code != 0:
        faults.append(f"again: {ended.code} {ended.err[-300:]}")
    elif scene.looks(run) != scene.seen["new"]:
        faults.append("other bytes than undisturbed")
    if leftovers(run):
        faults.append(f"left in the end: {leftovers(run)}")
    for name, content in OTHERS.items() if scene.world else ():
        if not (run / name).exists() or (run / name).read_text() != content:
            faults.append(f"{name} is not what it was")
    return faults


def at_renaming(scene: Scene, worlds: Worlds, place: Path, nth: int, late: bool) -> list[str]:
    """Kill at one renaming."""
    run = set_up(scene, worlds, place)
    ended = command(scene.words(worlds, run), before=killing(nth, after=late))
    if ended.code not in (0, -signal.SIGKILL):
        return [f"ended with {ended.code}: {ended.err[-300:]}"]
    return after(scene, worlds, run)


def at_random(scene: Scene, worlds: Worlds, place: Path, seconds: float) -> list[str]:
    """Kill after so many seconds."""
    run = set_up(scene, worlds, place)
    command(scene.words(worlds, run), seconds=seconds)
    return after(scene, worlds, run)


def main() -> None:
    """Kill, look, count; exit code 1 if anything was not as it should be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--renamings", type=int, default=60, help="kills at renamings, spread over all commands")
    parser.add_argument("--random", type=int, default=60, help="kills at random moments")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rng, started, faults = random.Random(args.seed), time.monotonic(), 0
    with tempfile.TemporaryDirectory() as folder:
        worlds = make_worlds(Path(folder, "worlds"))
        place = Path(folder, "scene")
        seconds = {scene.name: undisturbed(scene, worlds, place) for scene in SCENES}
        jobs: list[tuple[str, Scene, Callable[[], list[str]]]] = []
        for scene in SCENES:
            count = renamings(scene.words(worlds, set_up(scene, worlds, place)), Path(folder, "count"))
            moments = [(nth, late) for nth in range(count) for late in (False, True)]
            print(f"{scene.name}: {count} renamings, {seconds[scene.name]:.1f} s", file=sys.stderr, flush=True)
            for nth, late in rng.sample(moments, min(len(moments), -(-args.renamings // len(SCENES)))):
                words = f"{scene.name}, killed {'after' if late else 'before'} renaming {nth}"
                jobs.append((words, scene, lambda s=scene, n=nth, a=late: at_renaming(s, worlds, place, n, a)))  # type: ignore[misc]
        for i in range(args.random):
            scene = SCENES[i % len(SCENES)]
            moment = rng.uniform(0, 1.05 * seconds[scene.name])
            words = f"{scene.name}, killed after {moment:.2f} s"
            jobs.append((words, scene, lambda s=scene, m=moment: at_random(s, worlds, place, m)))  # type: ignore[misc]
        for words, _, job in jobs:
            for fault in job():
                faults += 1
                print(f"{words}: {fault}", flush=True)
    print(f"{len(jobs)} kills, {faults} faults, {time.monotonic() - started:.0f} s")
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
