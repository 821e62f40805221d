"""The differences that stay on purpose, as docs/pocketbase-differences.md lists them.

A row of its tables names the request, the place in the answer, and what each server says there; `*` stands for
anything. Every difference that is found must be in a row, and every row must be found.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from twin_answers import brief

PAGE = Path(__file__).parents[2] / "docs" / "pocketbase-differences.md"
CELL = re.compile(r"(?<!\\)\|")


@dataclass(frozen=True)
class Known:
    """One row. `cells` are patterns for request, place, PocketBase's and Pando's."""

    cells: tuple[str, ...]
    why: str

    def covers(self, ask, difference):
        told = (ask.label, difference.where, brief(difference.theirs), brief(difference.ours))
        return all(matches(cell, text) for cell, text in zip(self.cells, told, strict=True))


def matches(pattern, text):
    parts = [re.escape(part) for part in pattern.split("*")]
    return re.fullmatch(".*".join(parts), text, re.DOTALL) is not None


def read_known(text):
    """Read all rows of tables whose cells are code."""
    found = []
    for line in text.splitlines():
        cells = [cell.strip().replace("\\|", "|") for cell in CELL.split(line)[1:-1]]
        if len(cells) == 5 and all(cell[:1] == cell[-1:] == "`" for cell in cells[:4]):
            found.append(Known(tuple(cell.strip("`") for cell in cells[:4]), cells[4]))
    return found


class Ledger:
    """Collects differences, and which rows they are covered by."""

    def __init__(self, known):
        self.known = known
        self.used = set()
        self.unlisted = []

    def note(self, ask, differences, number=0):
        """Take the differences of one request, the so-manieth; gives those that are not listed."""
        new = []
        for each in differences:
            rows = [number for number, row in enumerate(self.known) if row.covers(ask, each)]
            self.used.update(rows)
            if not rows:
                new.append(f"{number}: {ask.label}\n        {each}")
        self.unlisted += new
        return new

    @property
    def gone(self):
        """Rows that nothing was found for."""
        return [row for number, row in enumerate(self.known) if number not in self.used]
