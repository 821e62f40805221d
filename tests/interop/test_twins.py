"""What compares PocketBase with Pando must find what differs, and only that: no server is needed to see to it."""

import base64
import itertools
import json
from datetime import UTC, datetime, timedelta

import pytest
from twin_answers import Answer, Comparer
from twin_differences import Ledger, read_known
from twin_generator import Generator
from twin_list import ALL
from twin_requests import get, post
from twin_servers import Side, Twins
from twin_values import FIELDS, VALUES, value_requests

RECORD = {
    "collectionId": "pbc_1",
    "id": "abcdefghij12345",
    "n": 1.5,
    "on": True,
    "none": None,
    "list": ["a", {"b": "c"}],
    "text": "x",
}
BY_PAGE = """
| request | place | PocketBase | Pando | why |
|---|---|---|---|---|
| `GET /a*` | `status` | `'200 *` | `'404 *` | because |
| `*` | `n` | `1.5` | `*` | a `code` in the reason |
| `GET /b \\| c` | `{keys}` | `{"x": 1}` | `{}` | a bar in a cell |
| no row | `status` | `1` | `2` | not code |
"""


def answer(value, status=200, **headers):
    body = value if isinstance(value, bytes) else json.dumps(value, separators=(",", ":")).encode()
    return Answer(status, headers, body)


def found(theirs, ours, comparer=None):
    return [each.where for each in (comparer or Comparer()).differences(theirs, ours)]


def token(**claims):
    return "x." + base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=") + ".y"


def test_equal_answers_do_not_differ():
    assert found(answer(RECORD), answer(RECORD)) == []


def changed(value):
    """Give the value with one thing changed, each thing in turn."""
    if isinstance(value, dict):
        for key in value:
            yield {name: each for name, each in value.items() if name != key}
            yield from ({**value, key: each} for each in changed(value[key]))
        yield {**value, "more": 1}
        yield dict(reversed(value.items()))
    elif isinstance(value, list):
        yield value[1:]
        yield [*value, "more"]
        for place, item in enumerate(value):
            yield from ([*value[:place], each, *value[place + 1 :]] for each in changed(item))
    else:
        yield from (each for each in (None, True, False, 0, 7, 1.25, "", "other") if each is not value)


def test_any_change_of_a_body_is_found_wherever_it_is():
    page = {"items": [RECORD], "page": 1}
    seen = 0
    for ours in changed(page):
        if answer(ours) == answer(page):  # a single key has but one order
            continue
        seen += 1
        assert found(answer(page), answer(ours)), ours
        assert found(answer(ours), answer(page)), ours
    assert seen > 60


@pytest.mark.parametrize(
    ("theirs", "ours", "where"),
    [
        (answer({}), answer({}, 201), ["status"]),
        (answer({}, a="1"), answer({}, a="2"), ["header a"]),
        (answer({}, a="1"), answer({}), ["header a"]),
        (answer({}, date="1"), answer({}, date="2"), []),
        (answer(b'{"n":1}'), answer(b'{"n":1.0}'), ["n"]),
        (answer(b'{"n":100}'), answer(b'{"n":1e2}'), ["n"]),
        (answer(b'{"n":1}'), answer(b'{"n":"1"}'), ["n"]),
        (answer(b'{"a":"<"}'), answer(b'{"a":"\\u003c"}'), ["text"]),
        (answer(b'{"a":"<"}'), answer(b'{"a": "<"}'), ["text"]),
        (answer(b"plain"), answer(b"other"), ["body"]),
        (answer(b"{}"), answer(b""), ["body"]),
        (answer({"a": 1, "b": 2}), answer({"b": 2, "a": 1}), ["{order}"]),
    ],
)
def test_what_surrounds_the_values_counts_too(theirs, ours, where):
    assert found(theirs, ours) == where


def test_made_up_ids_are_paired_for_good():
    comparer = Comparer()
    ids = ["aaaaaaaaaaaaaa1", "aaaaaaaaaaaaaa2", "bbbbbbbbbbbbbb1", "bbbbbbbbbbbbbb2"]
    assert found(answer({"id": ids[0]}), answer({"id": ids[2]}), comparer) == []
    assert found(answer({"x": ids[0]}), answer({"x": ids[2]}), comparer) == []
    assert found(answer({"x": ids[0]}), answer({"x": ids[3]}), comparer) == ["x"]
    assert found(answer({"x": ids[1]}), answer({"x": ids[2]}), comparer) == ["x"]
    assert found(answer({"x": ids[1]}), answer({"x": ids[3]}), comparer) == []
    assert found(answer({"x": "a_0123456789.txt"}), answer({"x": "a_9876543210.txt"}), comparer) == []
    assert found(answer({"x": "a_0123456788.txt"}), answer({"x": "b_9876543210.txt"}), comparer) == ["x"]


def test_times_are_the_same_only_if_both_are_now():
    now = datetime.now(UTC)
    texts = [f"{now - timedelta(hours=hours):%Y-%m-%d %H:%M:%S}.123Z" for hours in (0, 1)]
    other = texts[0].replace(".123Z", ".456Z")
    assert found(answer({"t": texts[0]}), answer({"t": other})) == []
    assert found(answer({"t": texts[0]}), answer({"t": texts[1]})) == ["t"]
    assert found(answer({"t": texts[1]}), answer({"t": texts[1].replace(".123Z", ".456Z")})) == ["t"]
    assert found(answer({"t": texts[0]}), answer({"t": ""})) == ["t"]


def test_tokens_are_compared_by_what_they_claim():
    one = token(id="aaaaaaaaaaaaaa1", type="auth", exp=1000)
    assert found(answer({"t": one}), answer({"t": token(id="bbbbbbbbbbbbbb1", type="auth", exp=1001)})) == []
    for other in (
        token(id="bbbbbbbbbbbbbb1", type="file", exp=1000),
        token(id="bbbbbbbbbbbbbb1", type="auth", exp=2000),
        token(id="bbbbbbbbbbbbbb1", type="auth", exp=1000, more=1),
        token(),
    ):
        assert found(answer({"t": one}), answer({"t": other})) == ["t"]


def test_texts_of_errors_may_differ_and_their_codes_not():
    theirs = {"data": {"a": {"code": "x", "message": "One."}}, "message": "One.", "status": 400}
    ours = {"data": {"a": {"code": "x", "message": "Another."}}, "message": "Another.", "status": 400}
    assert found(answer(theirs, 400), answer(ours, 400)) == []
    ours["data"]["a"]["code"] = "y"
    assert found(answer(theirs, 400), answer(ours, 400)) == ["data.a.code"]
    ours["data"]["a"] = {"code": "x", "message": "no sentence"}
    assert found(answer(theirs, 400), answer(ours, 400)) == ["data.a.message"]
    theirs["data"]["a"]["message"] = "Cannot be blank."
    ours["data"]["a"]["message"] = "Is missing."
    assert found(answer(theirs, 400), answer(ours, 400)) == ["data.a.message"], "the one text that programs look for"
    assert found(answer({"message": "One."}), answer({"message": "Two."})) == ["message"], "a record's own field"


class Canned(Side):
    """A side that gives what it was given."""

    def __init__(self, answers):
        self._answers = iter(answers)
        self.kept = {}

    def ask(self, _ask):
        return next(self._answers)

    def close(self):
        pass


def test_one_difference_among_many_answers_reaches_the_ledger(monkeypatch):
    monkeypatch.setattr("twin_servers.Side", lambda answers: Canned(answers))
    same = [answer({**RECORD, "n": n}) for n in range(200)]
    spoilt = [*same]
    spoilt[137] = answer({**RECORD, "n": 137, "text": "y"})
    both = Twins(same, spoilt)
    ledger = Ledger(read_known(BY_PAGE))
    for number in range(200):
        ledger.note(get(f"/{number}"), both.ask(get(f"/{number}")), number)
    both.close()
    assert len(ledger.unlisted) == 1
    assert ledger.unlisted[0].startswith("137: GET /137\n")
    assert len(ledger.gone) == 3


def test_a_row_covers_what_it_says_and_nothing_else():
    known = read_known(BY_PAGE)
    assert [row.why for row in known] == ["because", "a `code` in the reason", "a bar in a cell"]
    ledger = Ledger(known)
    lost, kept = answer({}, 404), answer({"n": 2})
    assert ledger.note(get("/abc"), Comparer().differences(answer({"n": 1.5}), lost)) == []
    assert ledger.note(get("/xyz"), Comparer().differences(answer({"n": 1.5}), lost)) != []
    assert ledger.note(post("/abc"), Comparer().differences(answer({"n": 1.5}), lost)) != []
    assert ledger.note(get("/xyz"), Comparer().differences(answer({"n": 1.5}), kept)) == []
    assert ledger.note(get("/xyz"), Comparer().differences(answer({"n": 1}), kept)) != []
    assert ledger.note(get("/b | c"), Comparer().differences(answer({"x": 1}), answer({}))) != [], (
        "1 is written as text"
    )
    assert len(ledger.gone) == 1


def test_a_seed_always_gives_the_same_requests_and_another_one_others():
    first, again, other = ([*itertools.islice(Generator(seed), 400)] for seed in (5, 5, 6))
    assert first == again
    assert first != other


def test_what_is_asked_covers_the_api():
    asked = [*ALL, *(each for seed in range(5) for each in itertools.islice(Generator(seed), 1000))]
    text = "\n".join(each.label for each in asked)
    for word in (
        *("truncate", "import", "dry-run-view", "scaffolds", "auth-refresh", "impersonate", "files/token", "batch"),
        *("/api/settings", "auth-methods", "expand=", "fields=", "skipTotal", "perPage", "sort=", "_via_"),
        *("geoDistance", "strftime", "%3Aeach", "%3Alength", "%3Alower", "%40collection", "%40now", "%21~", "%3F%3D"),
        *('+": ', '-": ', '"+', "viewQuery", "Content-Disposition", "deleteMissing"),
    ):
        assert word in text, word
    kinds = {each["type"] for each in FIELDS}
    assert len(kinds) >= 14
    assert len([*value_requests()]) > len(FIELDS) * len(VALUES)
