"""Sends a program of requests to both servers, and collects the differences that the page does not list.

By itself: `python tests/interop/twin_run.py SEED REQUESTS`, or `wide SEED REQUESTS`, `by-hand`, `values`, prints them.
"""

import itertools
import sys
import tempfile
from pathlib import Path

from twin_differences import PAGE, Ledger, read_known
from twin_generator import Generator
from twin_list import ALL
from twin_servers import twins
from twin_values import prepared, value_requests
from twin_wide import WideGenerator


def generated(seed, count):
    """Give the first requests of a seed."""
    return itertools.islice(Generator(seed), count)


def wide(seed, count):
    """Give the first requests of a seed, with files, views and imports."""
    return itertools.islice(WideGenerator(seed), count)


def by_hand():
    return iter(ALL)


def values(step=1):
    """Give one record for each value of each field; with a step only some of them."""
    return itertools.chain(prepared(), itertools.islice(value_requests(), 0, None, step))


def compare(folder, program):
    """Run a program on both; gives what was found."""
    ledger = Ledger(read_known(PAGE.read_text()))
    with twins(folder) as both:
        for number, ask in enumerate(program):
            ledger.note(ask, both.ask(ask), number)
    return ledger


def main(arguments):
    named = {"by-hand": by_hand, "values": values}
    if arguments[0] == "wide":
        program = wide(*map(int, arguments[1:]))
    else:
        program = named[arguments[0]]() if arguments[0] in named else generated(*map(int, arguments))
    with tempfile.TemporaryDirectory() as folder:
        ledger = compare(Path(folder), program)
    for each in ledger.unlisted:
        print(each)
    for row in ledger.gone:
        print("not found:", *row.cells)
    return bool(ledger.unlisted)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
