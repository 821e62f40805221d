"""Who is behind a token, as the routes of a site find it out: from the header to the record as it is now."""

from dataclasses import dataclass, replace

import pytest

from pando.records.auth.tokens import Issuer

KEY = "k" * 50


@dataclass(frozen=True)
class Person:
    """A user, and what makes its tokens."""

    site: object
    issuer: Issuer

    @property
    def now(self):
        return self.site.clock.wall / 1000

    def is_known_by(self, token):
        return self.site("POST", "collections/users/auth-refresh", token=token).status == 200


@pytest.fixture
def ann(site):
    made, _ = site.user("ann")
    site.sql("update users set tokenKey = ? where id = ?", KEY, made["id"])
    users = site.node.run(site.desk.known()).schema.find("users")
    return Person(site, Issuer(record_id=made["id"], collection_id=users.id, token_key=KEY, auth=users.auth))


@pytest.mark.parametrize("scheme", ["", "Bearer ", "bearer "])
def test_a_token_stands_for_its_record(ann, scheme):
    assert ann.is_known_by(scheme + ann.issuer.auth_token(ann.now))


@pytest.mark.parametrize("header", [" ", "Bearer ", "nonsense", "Basic dTpw", "a.b.c"])
def test_what_is_no_token_makes_a_guest(ann, header):
    assert not ann.is_known_by(header)


@pytest.mark.parametrize(
    "change", [{"token_key": "o" * 50}, {"record_id": "nobody000000000"}, {"collection_id": "none"}]
)
def test_a_token_of_another_key_record_or_collection_makes_a_guest(ann, change):
    assert not ann.is_known_by(replace(ann.issuer, **change).auth_token(ann.now))


def test_a_token_for_files_signs_no_requests(ann):
    assert not ann.is_known_by(ann.issuer.file_token(ann.now))


def test_a_token_for_a_collection_without_accounts_makes_a_guest(site, ann):
    posts = site.collection("posts")
    assert not ann.is_known_by(replace(ann.issuer, collection_id=posts["id"]).auth_token(ann.now))


def test_a_known_token_ends_with_its_time_its_key_its_secret_and_its_record(site, ann):
    token = ann.issuer.auth_token(ann.now)
    assert ann.is_known_by(token)
    site.sql("update users set tokenKey = ?", "n" * 50)
    assert not ann.is_known_by(token)
    site.sql("update users set tokenKey = ?", KEY)
    assert ann.is_known_by(token)
    path, secret = "collections/users", ann.issuer.auth.auth_token.secret
    assert site("PATCH", path, {"authToken": {"secret": "z" * 50}}, token=site.su).status == 200
    assert not ann.is_known_by(token)
    assert site("PATCH", path, {"authToken": {"secret": secret}}, token=site.su).status == 200
    assert ann.is_known_by(token)
    over = ann.issuer.auth_token(ann.now, duration_s=60)
    assert ann.is_known_by(over)
    site.clock.wall += 60_000
    assert not ann.is_known_by(over)
    site.sql("delete from users")
    assert not ann.is_known_by(token)
