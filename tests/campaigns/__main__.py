"""Runs the campaigns that are named, or all of them, side by side in time: each gets its share."""

from __future__ import annotations

import argparse
import random
import sys
import time

from campaigns import (
    companions,
    forking,
    fuzzing,
    interrupting,
    outputs,
    planting,
    poison,
    pressing,
    stepping,
)

CAMPAIGNS = {
    "forks": forking.run,
    "interrupts": interrupting.run,
    "steps": stepping.run,
    "notebook": pressing.run,
    "poison": poison.run,
    "companions": companions.run,
    "records": fuzzing.run,
    "outputs": outputs.run,
    "directories": planting.run,
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="campaigns", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[[], *CAMPAIGNS], default=[])
    parser.add_argument("--seconds", type=float, default=60.0, help="for all together; 60")
    parser.add_argument("--seed", type=int, default=None)
    given = parser.parse_args()
    names = given.names or list(CAMPAIGNS)
    seed = random.SystemRandom().randrange(1 << 32) if given.seed is None else given.seed
    broken = 0
    for name in names:
        print(f"{name}: seed {seed}", flush=True)
        deadline = time.monotonic() + given.seconds / len(names)
        problems, figures = CAMPAIGNS[name](random.Random(seed), deadline)
        for problem in problems:
            print(f"{name}: BROKEN: {problem}")
        print(f"{name}: {figures}", flush=True)
        broken += len(problems)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
