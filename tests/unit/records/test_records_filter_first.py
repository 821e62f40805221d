from datetime import UTC, datetime

import apsw
import pytest

from pando.records.filter import Compiler, Filter, Identity, Question, RequestInfo, Trust
from pando.records.model import (
    AuthOptions,
    Collection,
    CollectionType,
    EmailField,
    NumberField,
    RelationField,
    Rules,
    Schema,
    TextField,
)

USERS = Collection(
    id="u",
    name="users",
    type=CollectionType.AUTH,
    auth=AuthOptions(),
    fields=(TextField(name="id"), EmailField(name="email"), TextField(name="name")),
    rules=Rules(list=""),
)
POSTS = Collection(
    id="p",
    name="posts",
    fields=(
        TextField(name="id"),
        TextField(name="title"),
        NumberField(name="rank"),
        RelationField(name="author", collection_id="u", max_select=1),
    ),
)
NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


@pytest.fixture
def database():
    connection = apsw.Connection(":memory:")
    connection.execute(
        """
        CREATE TABLE users (id TEXT PRIMARY KEY, email TEXT, name TEXT);
        CREATE TABLE posts (id TEXT PRIMARY KEY, title TEXT, rank NUMERIC, author TEXT);
        INSERT INTO users VALUES ('ann', 'a@example.com', 'Ann'), ('bob', 'b@example.com', 'Bob');
        INSERT INTO posts VALUES ('p1', 'One', 1, 'ann'), ('p2', 'Two', 2, 'bob'), ('p3', 'Three', 3, '');
        """
    )
    yield connection
    connection.close()


CASES = [
    ("title = 'One'", "", ["p1"]),
    ("rank > 1 && rank < 3", "", ["p2"]),
    ("author = @request.auth.id", "", ["p1"]),
    ("author.name ~ 'b'", "", ["p2"]),
    ("author.name = '' || rank = 1", "-rank", ["p3", "p1"]),
    ("", "-author.name,title", ["p2", "p1", "p3"]),
]


@pytest.mark.parametrize(("rule", "sort", "expected"), CASES)
def test_rules_and_sorts_find_records(database, rule, sort, expected):
    request = RequestInfo(auth=Identity(USERS, {"id": "ann"}))
    question = Question(collection=POSTS, request=request, now=NOW, filters=(Filter(rule, Trust.RULE),), sort=sort)
    found = Compiler(Schema((USERS, POSTS))).select(question)
    assert [row[0] for row in database.execute(found.sql, found.args)] == expected
