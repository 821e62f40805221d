"""The same pipelines to sqld and to Pando: answers differ only where docs/sqld-differences.md says so.

What is compared, and what not, is said in `sqld_twins`. The line that a failure prints runs its program again.
"""

import itertools

import pytest
from sqld_program import need_sqld
from sqld_run import PAGE, by_hand, compare, generated
from twin_differences import read_known

pytestmark = [pytest.mark.interop, pytest.mark.slow, pytest.mark.timeout(900)]

SHORT = 300
LONG = 3000
SHOWN_MAX = 10


def assert_same(ledger, *arguments):
    shown = ledger.unlisted[:SHOWN_MAX]
    again = " ".join(["python", "tests/interop/sqld_run.py", *map(str, arguments)])
    assert not shown, "\n".join([f"{len(ledger.unlisted)} differences; again: {again}", *shown])


def test_generated_pipelines(tmp_path):
    need_sqld()
    assert_same(compare(tmp_path, generated(1, SHORT)), 1, SHORT)


@pytest.mark.full
def test_pipelines_made_by_hand_and_every_row_of_the_page(tmp_path):
    need_sqld()
    ledger = compare(tmp_path, itertools.chain(by_hand()))
    assert_same(ledger, "by-hand")
    rows = read_known(PAGE.read_text())
    unused = [row.cells for number, row in enumerate(rows) if number not in ledger.used]
    assert unused == [], "nothing was found for these; take them out"


@pytest.mark.full
def test_pipelines_made_by_hand_at_a_replica(tmp_path):
    need_sqld()
    assert_same(compare(tmp_path, by_hand(), "replica"), "by-hand", "replica")


@pytest.mark.full
@pytest.mark.parametrize("seed", range(100, 108))
def test_more_generated_pipelines(tmp_path, seed):
    need_sqld()
    role = "replica" if seed % 2 else "primary"
    assert_same(compare(tmp_path, generated(seed, LONG), role), seed, LONG, role)
