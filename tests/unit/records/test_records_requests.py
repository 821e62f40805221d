"""Parts of requests that are easier to look at by themselves than through the routes."""

import asyncio
from random import Random

import pytest

from pando.errors import SqlError
from pando.records import auth_checks, saving, signing_in
from pando.records.app_settings import AppSettings
from pando.records.bodies import draft_of
from pando.records.defining import PROVIDERS, next_moment
from pando.records.deleting import refers_anything
from pando.records.desk import Asking
from pando.records.engine import Place, Statement, Written
from pando.records.expanding import read_paths
from pando.records.fields.modifiers import rule_body
from pando.records.filter import RequestInfo
from pando.records.listing import read_page
from pando.records.model import (
    AuthOptions,
    AutodateField,
    Collection,
    CollectionType,
    NumberField,
    PasswordAuth,
    RelationField,
    Schema,
    TextField,
)
from pando.records.problems import ApiError
from pando.records.record import GUEST, SUPERUSER, Record
from pando.records.rules import may
from pando.records.schema_cache import Known
from pando.records.transaction_engine import TransactionEngine
from pando.records.writing import insert_statement

ID = TextField(id="i", name="id", primary_key=True, autogenerate_pattern="[a-z0-9]{15}")
POSTS = Collection(
    id="p1",
    name="posts",
    fields=(
        ID,
        TextField(id="t", name="title"),
        NumberField(id="n", name="n"),
        TextField(id="s", name="secret", hidden=True),
        AutodateField(id="c", name="created", on_create=True),
    ),
    updated="2026-01-01 00:00:00.000Z",
)
NOW_MS = 1_790_000_000_000


def asking(viewer=GUEST, schema=None):
    known = Known(schema or Schema((POSTS,)), AppSettings())
    return Asking(known=known, info=RequestInfo(), viewer=viewer, auth=None, now_ms=NOW_MS)


@pytest.mark.parametrize(
    ("query", "number", "size", "counts"),
    [
        ({}, 1, 30, True),
        ({"page": "3", "perPage": "10", "skipTotal": "true"}, 3, 10, False),
        ({"page": "-3", "perPage": "-1"}, 1, 30, True),
        ({"page": "", "perPage": "100000", "skipTotal": "0"}, 1, 1000, True),
        ({"page": "+2", "skipTotal": "F"}, 2, 30, True),
    ],
)
def test_pages_are_clamped(query, number, size, counts):
    page = read_page(query)
    assert (page.number, page.size, page.counts) == (number, size, counts)
    assert page.offset == (number - 1) * size


@pytest.mark.parametrize("query", [{"page": "x"}, {"perPage": "1.5"}, {"page": "9" * 30}, {"skipTotal": "yes"}])
def test_pages_that_cannot_be_read_are_refused(query):
    with pytest.raises(ApiError):
        read_page(query)


def test_paths_to_expand_make_a_tree():
    root = read_paths("author, author.company,tags,a..b,,x.1.2.3.4.5.6.7")
    assert set(root.names) == {"author", "tags", "x"}
    assert set(root.names["author"].names) == {"company"}
    branch, depth = root.names["x"], 1
    while branch.names:
        (branch,), depth = branch.names.values(), depth + 1
    assert depth == 6


def test_a_draft_takes_what_the_caller_may_set():
    body = {"title": 5, "secret": "x", "created": "2000-01-01", "unknown": 1}
    draft = draft_of(POSTS, body, asking=asking(), stored=None, random=Random(1))
    assert (draft.values["title"], draft.values["secret"], draft.values["n"]) == ("5", "", 0)
    assert draft.values["created"] == "2026-09-21 14:13:20.000Z"
    assert len(draft.values["id"]) == 15
    assert draft_of(POSTS, body, asking=asking(SUPERUSER), stored=None, random=Random(1)).values["secret"] == "x"
    assert rule_body(POSTS, body, draft.changes)["unknown"] == 1


def test_a_draft_of_a_stored_record_changes_only_what_is_named():
    stored = Record(POSTS, {"id": "a" * 15, "title": "old", "n": 1, "secret": "", "created": "x"})
    draft = draft_of(POSTS, {"n": 2}, asking=asking(), stored=stored, random=Random(1))
    assert draft.changed == ["n"]
    assert (draft.values["title"], draft.values["n"], draft.values["created"]) == ("old", 2, "x")


def test_only_superusers_pass_a_rule_that_is_null():
    assert may(asking(SUPERUSER), None) == ""
    assert may(asking(), " a = 1 ") == "a = 1"
    with pytest.raises(ApiError) as caught:
        may(asking(), None)
    assert caught.value.status == 403


def test_an_insert_names_every_column():
    statement = insert_statement(POSTS, {"id": "x", "title": "t", "n": 1.5, "secret": "", "created": ""})
    assert statement.sql == "INSERT INTO `posts` (`id`, `title`, `n`, `secret`, `created`) VALUES (?, ?, ?, ?, ?)"
    assert statement.args == ("x", "t", 1.5, "", "")


def test_moments_of_definitions_always_rise():
    assert next_moment(asking(), Schema((POSTS,))) == "2026-09-21 14:13:20.000Z"
    late = Collection(id="x", name="x", updated="2099-01-01 00:00:00.999Z")
    assert next_moment(asking(), Schema((POSTS, late))) == "2099-01-01 00:00:01.000Z"
    assert "google" in PROVIDERS and len(PROVIDERS) == 32


def test_a_lone_record_can_be_deleted_by_one_statement():
    relation = RelationField(id="r", name="post", collection_id="p1")
    comments = Collection(id="c1", name="comments", fields=(ID, relation))
    users = Collection(id="u1", name="users", type=CollectionType.AUTH, auth=AuthOptions())
    view = Collection(id="v1", name="v", type=CollectionType.VIEW, fields=(relation,), view_query="select 1")
    assert not refers_anything(Schema((POSTS,)), POSTS)
    assert not refers_anything(Schema((POSTS, view)), POSTS)
    assert refers_anything(Schema((POSTS, comments)), POSTS)
    assert refers_anything(Schema((users,)), users)


def test_what_looks_like_an_address_is_looked_for_among_addresses_first():
    options = AuthOptions(password_auth=PasswordAuth(identity_fields=("username", "email")))
    assert signing_in._order(options, "a@b.c") == ["email", "username"]
    assert signing_in._order(options, "ann") == ["username", "email"]
    assert auth_checks.TOKEN_KEY_CHARS == 50


class Recording:
    """A transaction that notes what it was asked."""

    def __init__(self):
        self.asked = []

    async def query(self, sql, args=()):
        self.asked.append(sql)
        return [(1,)]

    async def execute(self, sql, args=(), place=None):
        self.asked.append((sql, args, place))
        return Written([], 1)

    async def later(self, statement, refused, place=None):
        self.asked.append((statement.sql, place, refused(SqlError("no"))))

    def is_unwritten(self, sql):
        return "written" not in sql


def test_an_engine_in_a_transaction_writes_through_it():
    async def work():
        transaction = Recording()
        engine = TransactionEngine(transaction)
        assert await engine.reads().query("one") == [(1,)]
        place = Place("t", "1")
        await engine.write([Statement("two", (2,)), Statement("three")], place)
        await engine.put([Statement("four"), Statement("five")], lambda error: ApiError(400, error.message), place)
        async with engine.transaction() as inner:
            assert inner is transaction
        assert (engine.is_primary, engine.is_alone, engine.position) == (True, True, None)
        assert engine.reading().basis() is None
        return transaction.asked, place

    (one, two, three, four, five), place = asyncio.run(work())
    assert (one, two, three) == ("one", ("two", (2,), place), ("three", (), None))
    assert (four[:2], five[:2]) == (("four", place), ("five", None))
    assert (four[2].status, four[2].message) == (400, "no")


def test_what_a_transaction_has_read_holds_until_it_writes_there():
    async def work(*queries, others=False):
        engine = TransactionEngine(Recording())
        reading = engine.reading()
        for sql in queries:
            await reading.query(sql)
        if others:
            reading.include(None)
        basis = reading.basis()
        return basis is not None and engine.holds(basis)

    assert asyncio.run(work("one", "two"))
    assert not asyncio.run(work("one", "written"))
    assert not asyncio.run(work("one", others=True))
    assert not TransactionEngine(Recording()).holds(("written",))


def test_settings_are_written_with_a_later_moment():
    assert "max(excluded.`updated`" in saving._SAVE
