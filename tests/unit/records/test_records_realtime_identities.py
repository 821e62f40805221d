"""What a change of the feed means for those who are signed in."""

import json

import pytest
from records_realtime_kit import POSTS, USERS, change, user

from pando.records.model import SUPERUSERS_ID
from pando.records.realtime.changes import Change, Operation
from pando.records.realtime.identities import CollectionEffect, RecordEffect, When, effects_of

KEY = ("pbc_users", "u1")


def of_users(operation, **fields):
    return change(1, "u1", table="users", operation=operation, tokenKey="key", **fields)


def becomes(effects, identity):
    """What is left of an identity after some effects."""
    for effect in effects:
        key = effect.key if isinstance(effect, RecordEffect) else (effect.collection_id, identity.record_id)
        if key == identity.key:
            identity = effect.applied_to(identity)
    return identity


@pytest.mark.parametrize(
    ("changed", "collection", "expected"),
    [
        (of_users("insert"), USERS, []),
        (of_users("update", new={"a": 1}), USERS, [RecordEffect(KEY, user(a=1).values, When.BEFORE)]),
        (of_users("delete"), USERS, [RecordEffect(KEY, None, When.AFTER)]),
        (of_users("update", new={"id": "u2"}), USERS, [RecordEffect(KEY, None, When.BEFORE)]),
        (change(1, operation="delete"), POSTS, []),
        (change(1, table="unknown"), None, []),
        (Change(1, 0, "users", Operation.DELETE, 1), USERS, [CollectionEffect("pbc_users")]),
        (Change(1, 0, "users", Operation.UPDATE, 1), USERS, [CollectionEffect("pbc_users")]),
    ],
)
def test_changes_of_records(changed, collection, expected):
    assert effects_of(changed, collection) == expected


def test_a_changed_row_makes_the_identity_newer_and_another_token_key_ends_it():
    assert becomes(effects_of(of_users("update", new={"name": "x"}), USERS), user()) == user(name="x")
    assert becomes(effects_of(of_users("update", new={"tokenKey": "other"}), USERS), user()) is None
    assert becomes(effects_of(of_users("delete"), USERS), user()) is None
    assert becomes(effects_of(of_users("delete"), USERS), user("u2")) == user("u2")


def options(secret, **more):
    return json.dumps({"authToken": {"secret": secret, "duration": 5}, **more})


@pytest.mark.parametrize(
    ("operation", "old", "new", "ends"),
    [
        ("insert", None, options("s"), False),
        ("delete", options("s"), None, True),
        ("update", options("s"), options("s", mfa={"enabled": True}), False),
        ("update", options("s"), options("t"), True),
        ("update", "{}", "{}", False),
        ("update", "not json", "not json", False),
        ("update", "not json", "{}", True),
        ("update", None, None, False),
        ("update", None, options("s"), True),
    ],
)
def test_changes_of_the_collection(operation, old, new, ends):
    changed = change(
        1, "pbc_users", table="_collections", operation=operation, old={"options": old}, new={"options": new}
    )
    assert effects_of(changed, None) == ([CollectionEffect("pbc_users")] if ends else [])


def test_superusers_are_told_apart():
    assert user(collection_id=SUPERUSERS_ID).is_superuser
    assert not user().is_superuser


def test_equal_identities_are_one_question():
    assert len({user(a=1), user(a=1)}) == 1
    assert len({user(a=1), user(a=2), user("u2", a=1)}) == 3
