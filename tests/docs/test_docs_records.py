"""Every route of the records API is in its page, and the page names no other."""

import re
from pathlib import Path

from pando.api.records_table import ROUTES, WRITES

PAGE = Path(__file__).parents[2] / "docs" / "http-records.md"
GROUP = "changes/groups/*"
STREAMS = {
    "GET replica/status",
    "GET realtime",
    "POST realtime",
    "GET changes",
    "GET changes/groups",
    f"DELETE {GROUP}",
} | {f"POST {GROUP}/{step}" for step in ("claim", "ack", "extend", "release")}
"""Answered outside the table of routes; documented like the others."""


def normal(route):
    return re.sub(r"\{\w+\}", "*", route).replace("/api/", "")


def test_the_page_names_every_route_and_no_other():
    found = {normal(each) for each in re.findall(r"^\| `([A-Z|]+ /api/[^`?]+)", PAGE.read_text(), re.MULTILINE)}
    known = set(ROUTES)
    assert known - found == set(), "document these in docs/http-records.md"
    assert found - known - STREAMS == set(), "these are documented and not there"
    assert len(known) > 20


def test_the_page_says_what_writes():
    rows = re.findall(r"^\| `([A-Z]+ /api/[^`?]+)[^|]*\|[^|]*\| (yes)? *\|", PAGE.read_text(), re.MULTILINE)
    told = {normal(route) for route, writes in rows if writes}
    assert told - STREAMS == WRITES & {normal(route) for route, _ in rows}
