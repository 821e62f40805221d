"""Tokens over HTTP: made, listed and revoked by administrators, on a table as the system database has it."""

import asyncio
import json

import apsw
import pytest
from asgi_client import call
from hypothesis import given, settings
from hypothesis import strategies as st

from pando.api.app import App
from pando.api.token_routes import EXPIRED_KEPT_MS, token_routes
from pando.errors import NotReady, Unauthorized
from pando.log import EventLog
from pando.node.tokens import Authenticator, make_token, token_id
from pando.sql.system import TABLES
from pando.testing.virtual_clock import VirtualClock

SECRET = "the cluster's secret"


class Table:
    """The system database, and what follows from it in this process."""

    def __init__(self, auth):
        self.connection = apsw.Connection(":memory:")
        self.auth = auth
        self.is_ready = True

    async def rows(self, sql, *args):
        try:
            return self.connection.execute(sql, args).fetchall()
        except apsw.SQLError:
            return []

    async def write(self, statements):
        self.connection.execute(TABLES["tokens"])
        for statement in statements:
            self.connection.execute(statement.sql, statement.args)
        self.auth.revoke(frozenset(row[0] for row in await self.rows("SELECT id FROM tokens WHERE revoked NOT NULL")))


class Site:
    def __init__(self, **bounds):
        self.clock = VirtualClock()
        self.auth = Authenticator(SECRET, clock=self.clock)
        self.table = Table(self.auth)
        self.admin = make_token(SECRET, clock=self.clock)
        routes = token_routes(self.find, self.auth, SECRET, self.clock, **bounds)
        self.app = App(routes, EventLog("web", write=lambda line: None), lambda: "")

    def find(self):
        if not self.table.is_ready:
            raise NotReady("not yet")
        return self.table

    def __call__(self, method, path, body=None, token=None):
        data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        return asyncio.run(call(self.app, method, path, body=data, token=self.admin if token is None else token))

    def access(self, token):
        return self.auth.authenticate([(b"authorization", b"Bearer " + token.encode())])

    def listed(self):
        return self("GET", "/cluster/tokens").json()["tokens"]


@pytest.fixture
def site():
    return Site()


def test_a_token_is_made_listed_and_revoked(site):
    assert site.listed() == []
    answer = site("POST", "/cluster/tokens", {"name": "shop", "databases": ["shop"], "expires_s": 60})
    made = answer.json()
    assert answer.status == 201
    assert site.access(made["token"]).databases == {"shop"}
    (listed,) = site.listed()
    assert listed == {key: value for key, value in made.items() if key != "token"}
    assert made["token"] not in json.dumps(listed)
    assert (listed["name"], listed["rights"], listed["databases"], listed["revoked"]) == ("shop", "rw", ["shop"], None)
    assert listed["created"] < listed["expires"] and listed["expires"].endswith("Z")
    revoked = site("POST", "/cluster/tokens/revoke", {"id": made["id"]})
    assert (revoked.status, revoked.json()) == (200, {"revoked": made["id"], "listed": True})
    with pytest.raises(Unauthorized, match="revoked"):
        site.access(made["token"])
    (listed,) = site.listed()
    assert listed["revoked"] and listed["name"] == "shop"


def test_to_revoke_again_changes_nothing(site):
    made = site("POST", "/cluster/tokens", {}).json()
    site("POST", "/cluster/tokens/revoke", {"id": made["id"]})
    before = site.listed()
    site.clock.advance(100)
    assert site("POST", "/cluster/tokens/revoke", {"id": made["id"]}).status == 200
    assert site.listed() == before


def test_a_token_that_nobody_noted_can_be_revoked(site):
    token = make_token(SECRET, clock=site.clock)
    answer = site("POST", "/cluster/tokens/revoke", {"id": token_id(token)})
    assert answer.json()["listed"] is False
    with pytest.raises(Unauthorized):
        site.access(token)
    assert [(row["rights"], row["databases"]) for row in site.listed()] == [("unlisted", None)]


@pytest.mark.parametrize(
    ("wanted", "rights"),
    [({}, "admin"), ({"admin": False}, "rw"), ({"read_only": True}, "ro"), ({"databases": ["a"]}, "rw")],
)
def test_rights_are_those_of_the_token(site, wanted, rights):
    made = site("POST", "/cluster/tokens", wanted).json()
    access = site.access(made["token"])
    assert made["rights"] == rights
    assert (access.is_admin, access.read_only) == (rights == "admin", rights == "ro")


def test_administrators_only(site):
    for token, status in (
        ("x", 401),
        (make_token(SECRET, read_only=True), 403),
        (make_token(SECRET, is_admin=False), 403),
    ):
        for method, path in (
            ("GET", "/cluster/tokens"),
            ("POST", "/cluster/tokens"),
            ("POST", "/cluster/tokens/revoke"),
        ):
            assert site(method, path, {}, token=token).status == status
    assert site.listed() == []


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("", b"x"),
        ("", b"[]"),
        ("", {"expires_s": 0}),
        ("", {"expires_s": 1e12}),
        ("", {"databases": ["../x"]}),
        ("", {"databases": "x"}),
        ("", {"read_only": True, "admin": True}),
        ("", {"name": "x" * 201}),
        ("", {"nmae": "x"}),
        ("/revoke", {}),
        ("/revoke", {"id": ""}),
        ("/revoke", {"id": "a\nb"}),
        ("/revoke", {"id": "x" * 201}),
        ("/revoke", {"id": 7}),
    ],
)
def test_bad_bodies_are_refused_and_change_nothing(site, path, body):
    answer = site("POST", f"/cluster/tokens{path}", body)
    assert (answer.status, site.listed()) == (400, [])
    assert answer.json()["message"]


def test_the_list_is_bounded_and_what_has_expired_makes_room():
    site = Site(listed_max=3)
    for name in ("a", "b"):
        assert site("POST", "/cluster/tokens", {"expires_s": 60, "name": name}).status == 201
    site.clock.advance(EXPIRED_KEPT_MS / 1000 + 61)
    assert site("POST", "/cluster/tokens", {"name": "c"}).status == 201
    assert [row["name"] for row in site.listed()] == ["c"]
    for name in ("d", "e"):
        assert site("POST", "/cluster/tokens", {"name": name}).status == 201
    answer = site("POST", "/cluster/tokens", {})
    assert (answer.status, answer.json()["code"], len(site.listed())) == (400, "TOKENS_TOO_MANY", 3)


def test_a_node_that_is_not_ready_says_so(site):
    site.table.is_ready = False
    assert [site("GET", "/cluster/tokens").status, site("POST", "/cluster/tokens", {}).status] == [503, 503]


@settings(deadline=None)
@given(st.binary(max_size=100))
def test_any_body_is_answered(body):
    site = Site()
    assert site("POST", "/cluster/tokens", body).status in (201, 400)
    assert site("POST", "/cluster/tokens/revoke", body).status in (200, 400)
