"""Sends a program of pipelines to sqld and to Pando, and collects the differences that the page does not list.

By itself: `python tests/interop/sqld_run.py SEED PIPELINES [ROLE]`, or `by-hand [ROLE]`, prints them.
"""

import itertools
import sys
import tempfile
from pathlib import Path

from sqld_generator import Generator
from sqld_list import ALL
from sqld_twins import sql_twins
from twin_differences import Ledger, read_known

PAGE = Path(__file__).parents[2] / "docs" / "sqld-differences.md"


def generated(seed, count):
    """Give the first pipelines of a seed."""
    return itertools.islice(Generator(seed), count)


def by_hand():
    return iter(ALL)


def compare(folder, program, role="primary"):
    """Run a program on both; gives what was found."""
    ledger = Ledger(read_known(PAGE.read_text()) if PAGE.exists() else [])
    with sql_twins(folder, role) as both:
        for number, ask in enumerate(program):
            for entry, difference in both.ask(ask):
                ledger.note(entry, [difference], number)
    return ledger


def main(arguments):
    role = arguments.pop() if arguments[-1] in {"primary", "replica"} else "primary"
    program = by_hand() if arguments[0] == "by-hand" else generated(*map(int, arguments))
    with tempfile.TemporaryDirectory() as folder:
        ledger = compare(Path(folder), program, role)
    for each in ledger.unlisted:
        print(each)
    for row in ledger.gone if arguments[0] == "by-hand" else ():
        print("not found:", *row.cells)
    return bool(ledger.unlisted)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
