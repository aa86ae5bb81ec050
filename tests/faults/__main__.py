"""All faults at length: every stage killed over and over, then the tests of all cases.

    python -m tests.faults [--random 60] [--seed 1] [--no-places] [--no-cases]

Stages are killed at each place that writes, renames, syncs or removes something of an artifact
or of the results, and then at random moments. The front-end
`kmeans_mfcc` adds the stages 1 and 2 that it has of its own. Figures go to exp/faults.json; the
exit status is 1 where something was damaged or a case failed.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tabulate import tabulate

from pipeline.store import write_atomically
from stages import STAGES
from tests.faults import cases, interpose, small
from tests.faults.kills_pipeline import Stage, Told
from tests.faults.whole import Whole

OUT = Path("exp/faults.json")
OF_ITS_OWN = {"unit_bert": range(len(STAGES)), "kmeans_mfcc": range(1, 3)}


def measure(folder: Path, places: bool, at_random: int, seed: int) -> Iterator[tuple[str, Told]]:
    """What comes of every stage, by front-end; of `at_random` kills each has its share."""
    rng = random.Random(seed)
    small.write_corpus(folder / "corpus")
    stages: list[tuple[str, Stage]] = []
    for frontend, numbers in OF_ITS_OWN.items():
        done = Whole(folder / frontend, small.write_recipe(folder, folder / "corpus", frontend))
        ended = done.run(logged=True)
        if ended.code:
            raise RuntimeError(ended.said)
        calls = done.calls()
        stages += [(frontend, Stage(folder / frontend, done, calls, n)) for n in numbers]
    at_places = sum(len(stage.faults) for _, stage in stages) if places else 0
    print(f"{at_places} kills at places that write, {at_random} at random moments", flush=True)
    for number, (frontend, stage) in enumerate(stages):
        if places:
            stage.kill_at(stage.faults)
        share = at_random * (number + 1) // len(stages) - at_random * number // len(stages)
        if share:
            stage.kill_at_random(rng, share)
        yield frontend, stage.told


def table(told: list[tuple[str, Told]]) -> str:
    """For people."""
    headers = [
        "front-end",
        "stage",
        "kills",
        "places that write",
        "not come to",
        "rounds",
        "updates made again",
        "damaged",
    ]
    rows = [
        [
            frontend,
            t.stage,
            t.kills,
            len(t.places),
            len(t.missed),
            t.rounds,
            t.repeated,
            len(t.damaged),
        ]
        for frontend, t in told
    ]
    return tabulate(rows, headers)


class Outcomes:
    """A plugin of pytest that keeps what came of each case."""

    found: dict[int, str]

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        counts = cases.outcomes(terminalreporter.stats)
        self.found = {number: cases.state(counts[number]) for number in cases.CASES}


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--random", type=int, default=60, help="kills at random moments")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--no-places", action="store_true", help="kill at random alone")
    parser.add_argument("--no-cases", action="store_true", help="kill, and run no tests")
    chosen = parser.parse_args(arguments)
    if interpose.library() is None:
        print("there is no C compiler (Debian: apt-get install gcc)", file=sys.stderr)
        return 1
    began, told = time.monotonic(), []
    with tempfile.TemporaryDirectory(prefix="vqasr-faults-") as folder:
        made = measure(Path(folder), not chosen.no_places, chosen.random, chosen.seed)
        for frontend, stage in made:
            told.append((frontend, stage))
            state = "DAMAGED" if stage.damaged else "same"
            print(f"{frontend} {stage.stage}: {stage.kills} kills, {state}", flush=True)
    print(table(told))
    for _, stage in told:
        for name in stage.damaged[:5]:
            print(f"{stage.stage}: {name} differs")
    facts: dict[str, Any] = {
        "kills": sum(t.kills for _, t in told),
        "kills_at_random": sum(t.kills_at_random for _, t in told),
        "damaged": sum(len(t.damaged) for _, t in told),
        "updates_repeated": sum(t.repeated for _, t in told),
        "places": sum(len(t.places) for _, t in told),
        "seconds": round(time.monotonic() - began),
        "seed": chosen.seed,
        "cases": {},
    }
    failed = bool(facts["damaged"])
    if not chosen.no_cases:
        outcomes = Outcomes()
        failed |= pytest.main(["-m", "case", "-q", "tests"], plugins=[outcomes]) != 0
        facts["cases"] = {number: found == "passed" for number, found in outcomes.found.items()}
        failed |= not all(facts["cases"].values())
    OUT.parent.mkdir(exist_ok=True)
    write_atomically(OUT, json.dumps(facts, indent=1) + "\n")
    print(f"{facts['kills']} kills survived, {facts['damaged']} files damaged; more in {OUT}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
