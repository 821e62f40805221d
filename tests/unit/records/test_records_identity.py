import asyncio
from dataclasses import dataclass

import pytest

from pando.records.auth.identity import Identifier, token_of
from pando.records.auth.tokens import Issuer, TokenKind, VerifiedTokens
from pando.records.model import (
    SUPERUSERS,
    SUPERUSERS_ID,
    AuthOptions,
    Collection,
    CollectionType,
    Schema,
    TokenOptions,
)

NOW = 1000.0
KEY = "k" * 50


def auth_options(secret):
    return AuthOptions(
        auth_token=TokenOptions(secret=secret * 40, duration=100),
        file_token=TokenOptions(secret=secret * 41, duration=50),
    )


USERS = Collection(id="u1", name="users", type=CollectionType.AUTH, auth=auth_options("u"))
ADMINS = Collection(id=SUPERUSERS_ID, name=SUPERUSERS, type=CollectionType.AUTH, auth=auth_options("a"))
POSTS = Collection(id="p1", name="posts")
SCHEMA = Schema((USERS, ADMINS, POSTS))


@dataclass(frozen=True)
class Person:
    id: str
    token_key: str


def issuer(collection=USERS, record="r1", key=KEY):
    return Issuer(
        record_id=record, collection_id=collection.id, token_key=key, auth=collection.auth or auth_options("x")
    )


class World:
    """Records that can change, and the questions that were asked about them."""

    def __init__(self):
        self.schema = SCHEMA
        self.people = {("u1", "r1"): Person("r1", KEY), (SUPERUSERS_ID, "r1"): Person("r1", KEY)}
        self.asked = []
        self.tokens = VerifiedTokens()
        self.identifier = Identifier(lambda reference: self.schema.find(reference), self.find, self.tokens)

    async def find(self, collection, record_id):
        self.asked.append((collection.id, record_id))
        return self.people.get((collection.id, record_id))

    def of(self, header, now=NOW):
        return asyncio.run(self.identifier.of_header(header, now))


@pytest.fixture
def world():
    return World()


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("", ""),
        ("abc", "abc"),
        ("  abc ", "abc"),
        ("Bearer abc", "abc"),
        ("bearer  abc", "abc"),
        ("Bearer", "Bearer"),
        ("Basic abc", "Basic abc"),
    ],
)
def test_the_token_of_a_header(header, expected):
    assert token_of(header) == expected


@pytest.mark.parametrize("scheme", ["", "Bearer ", "bearer "])
def test_a_signed_request_has_an_identity(world, scheme):
    token = issuer().auth_token(NOW)
    found = world.of(scheme + token)
    assert (found.collection, found.record, found.token) == (USERS, world.people["u1", "r1"], token)
    assert (found.is_superuser, found.is_refreshable) == (False, True)


def test_superusers_are_told_apart_by_their_collection(world):
    assert world.of(issuer(ADMINS).auth_token(NOW)).is_superuser


def test_tokens_of_impersonation_cannot_be_refreshed(world):
    assert not world.of(issuer().auth_token(NOW, is_refreshable=False)).is_refreshable


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        " ",
        "Bearer ",
        "nonsense",
        "Basic dTpw",
        "a.b.c",
        issuer().file_token(NOW),
        issuer(key="other" * 10).auth_token(NOW),
        issuer(record="r9").auth_token(NOW),
        issuer(POSTS).auth_token(NOW),
        issuer(Collection(id="none", name="none")).auth_token(NOW),
        issuer().auth_token(NOW - 100),
    ],
)
def test_everything_else_is_a_guest(world, header):
    assert world.of(header) is None


def test_nothing_is_looked_up_for_a_token_that_is_over_or_of_another_kind(world):
    world.of(issuer().auth_token(NOW - 100))
    world.of(issuer().file_token(NOW))
    assert world.asked == []


def test_a_new_token_key_or_secret_ends_a_token_that_was_known(world):
    token = issuer().auth_token(NOW)
    assert world.of(token) is not None and len(world.tokens) == 1
    world.people["u1", "r1"] = Person("r1", "n" * 50)
    assert world.of(token) is None
    world.people["u1", "r1"] = Person("r1", KEY)
    assert world.of(token) is not None
    changed = Collection(id="u1", name="users", type=CollectionType.AUTH, auth=auth_options("z"))
    world.schema = Schema((changed,))
    assert world.of(token) is None
    world.schema = SCHEMA
    assert world.of(token) is not None
    del world.people["u1", "r1"]
    assert world.of(token) is None


def test_a_known_token_is_over_in_time(world):
    token = issuer().auth_token(NOW)
    assert world.of(token, NOW + 99) is not None
    assert world.of(token, NOW + 100) is None


def test_the_record_is_looked_up_each_time(world):
    token = issuer().auth_token(NOW)
    world.of(token)
    world.of(token)
    assert world.asked == [("u1", "r1")] * 2


def test_file_tokens_stand_for_their_record_where_they_are_asked_for(world):
    def of(token, kind):
        return asyncio.run(world.identifier.of_token(token, kind, NOW))

    assert of(issuer().file_token(NOW), TokenKind.FILE).record.id == "r1"
    assert of(issuer().auth_token(NOW), TokenKind.FILE) is None
    assert of("", TokenKind.FILE) is None
