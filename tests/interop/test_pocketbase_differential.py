"""The same requests to PocketBase and to Pando: answers differ only where docs/pocketbase-differences.md says so.

What is compared, and what not, is said in `twin_answers`. The line that a failure prints runs its program again.
"""

import pytest
from pocketbase_program import need_pocketbase
from twin_differences import PAGE, read_known
from twin_run import by_hand, compare, generated, values, wide

pytestmark = [pytest.mark.interop, pytest.mark.slow, pytest.mark.timeout(900)]

SHORT = 300
LONG = 2500
SHOWN_MAX = 10
VALUES_STEP = 40


def assert_same(ledger, *arguments):
    shown = ledger.unlisted[:SHOWN_MAX]
    again = " ".join(["python", "tests/interop/twin_run.py", *map(str, arguments)])
    assert not shown, "\n".join([f"{len(ledger.unlisted)} differences; again: {again}", *shown])


def test_requests_made_by_hand(tmp_path):
    need_pocketbase()
    assert_same(compare(tmp_path, by_hand()), "by-hand")


@pytest.mark.parametrize("seed", [1, 2])
def test_generated_requests(tmp_path, seed):
    need_pocketbase()
    assert_same(compare(tmp_path, generated(seed, SHORT)), seed, SHORT)


@pytest.mark.full
@pytest.mark.parametrize("seed", range(100, 116))
def test_more_generated_requests(tmp_path, seed):
    need_pocketbase()
    assert_same(compare(tmp_path, generated(seed, LONG)), seed, LONG)


@pytest.mark.parametrize("seed", [1, 2])
def test_generated_requests_with_files_views_and_imports(tmp_path, seed):
    need_pocketbase()
    assert_same(compare(tmp_path, wide(seed, SHORT)), "wide", seed, SHORT)


@pytest.mark.full
@pytest.mark.parametrize("seed", range(100, 108))
def test_more_generated_requests_with_files_views_and_imports(tmp_path, seed):
    need_pocketbase()
    assert_same(compare(tmp_path, wide(seed, LONG)), "wide", seed, LONG)


def test_some_values_of_fields(tmp_path):
    need_pocketbase()
    assert_same(compare(tmp_path, values(VALUES_STEP)), "values")


@pytest.mark.full
def test_every_row_of_the_page_is_found(tmp_path):
    """And all values of all fields are the same but for those."""
    need_pocketbase()
    (tmp_path / "by-hand").mkdir()
    (tmp_path / "values").mkdir()
    made, valued = compare(tmp_path / "by-hand", by_hand()), compare(tmp_path / "values", values())
    assert_same(valued, "values")
    rows = read_known(PAGE.read_text())
    unused = [rows[number].cells for number in range(len(rows)) if number not in made.used | valued.used]
    assert unused == [], "nothing was found for these; take them out"
