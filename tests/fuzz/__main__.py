"""Random cases against the whole package: ``python -m tests.fuzz --seconds 600 --seed 1 --what networks``.

A failing case is made smaller and printed as a program that shows it. Cases depend on the seed and their number only:
``--seed S --first N`` starts with case N. The exit code is 1 where anything failed.
"""

import argparse
import sys

from .campaign import campaign
from .registry import GENERATORS

_REASONS = 5
"""Reasons of refusals that are printed, the most frequent first."""


def main() -> int:
    """Parse the command line and run the generators, one after the other."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60, help="of all generators together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--what", action="append", choices=sorted(GENERATORS), help="by default all")
    options = parser.parse_args()
    names = options.what or list(GENERATORS)
    failed = 0
    for name in names:
        seconds = options.seconds / len(names)
        tally = campaign(GENERATORS[name], options.seed, seconds, say, options.first)
        say(f"{name}: {tally.clean} clean, {tally.refused} refused, {tally.failed} failed")
        for reason, count in tally.refusals.most_common(_REASONS):
            say(f"  refused {count} times: {' '.join(reason.split())[:160]}")
        failed += tally.failed
    return 1 if failed else 0


def say(text: str) -> None:
    """Print at once: a run that is ended early has said what it found."""
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
