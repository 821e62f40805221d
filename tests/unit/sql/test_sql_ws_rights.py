"""Rights over WebSocket with real tokens: codes in `hello_error`, and what changes while a connection is open."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from service_bench import Node
from ws_bench import Talk

from pando.clock import SystemClock
from pando.node.tokens import Authenticator, issue_token, make_token
from pando.sql.ws_session import Headers, NotWelcome, WsSession

SECRET = "the cluster's secret"
PRIVATE = Ed25519PrivateKey.generate()
PUBLIC = PRIVATE.public_key().public_bytes_raw()


class MovedClock(SystemClock):
    ahead_ms = 0

    def wall_ms(self) -> int:
        return super().wall_ms() + self.ahead_ms


class Site:
    def __init__(self, folder: Path) -> None:
        self.clock = MovedClock()
        self.node = Node(folder, is_primary=True)
        self.check = Authenticator(SECRET, clock=self.clock)

    def talk(self, headers: Headers | None = None) -> Talk:
        talk = Talk(self.node, headers=headers)
        session: WsSession = talk.session
        session._authenticate = self.check.authenticate
        return talk


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path)
    yield site
    site.node.close()


def elsewhere(**claims: Any) -> str:
    return jwt.encode(claims, PRIVATE, algorithm="EdDSA")


@pytest.mark.parametrize(
    ("token", "code"),
    [
        (None, "AUTH_HEADER_NOT_FOUND"),
        ("x", "AUTH_JWT_INVALID"),
        (make_token("another secret"), "AUTH_JWT_INVALID"),
        (elsewhere(), "AUTH_JWT_INVALID"),
        (make_token(SECRET, life_s=-10), "AUTH_JWT_EXPIRED"),
        (make_token(SECRET, database="other"), "UNKNOWN_DATABASE"),
    ],
)
def test_refusals_have_the_codes_of_sqld(site: Site, token: str | None, code: str) -> None:
    async def scenario() -> None:
        talk = site.talk()
        with pytest.raises(NotWelcome):
            await talk.hello(token)
        assert talk.answers == [{"type": "hello_error", "error": talk.answers[0]["error"]}]
        assert talk.answers[0]["error"]["code"] == code

    site.node.run(scenario())


async def opened(talk: Talk, token: str) -> Talk:
    assert await talk.hello(token) == {"type": "hello_ok"}
    await talk.ask("open_stream", stream_id=1)
    assert await talk.sql(1, "select b from t") == [["one"]]
    return talk


def test_a_token_that_is_revoked_or_expires_fails_requests_of_open_connections(site: Site) -> None:
    async def scenario() -> None:
        made = issue_token(SECRET, clock=site.clock)
        talk = await opened(site.talk(), made.token)
        site.check.revoke(frozenset({made.id}))
        assert await talk.sql(1, "select 1") == "AUTH_JWT_INVALID"
        brief = make_token(SECRET, life_s=60, clock=site.clock)
        await talk.hello(brief)
        assert await talk.sql(1, "select 1") == [["1"]]
        site.clock.ahead_ms = 61_000
        assert await talk.sql(1, "select 1") == "AUTH_JWT_EXPIRED"

    site.node.run(scenario())


def test_a_database_that_gets_a_key_of_its_own_is_closed_to_open_connections_with_other_tokens(site: Site) -> None:
    async def scenario() -> None:
        site.check.use_database_keys({"data": (PUBLIC,)})
        talk = await opened(site.talk(), elsewhere(a="ro"))
        assert await talk.sql(1, "delete from t") == "FORBIDDEN"
        site.check.use_database_keys({"data": (bytes(32),)})
        assert await talk.sql(1, "select 1") == "AUTH_JWT_INVALID"
        site.check.use_database_keys({"other": (PUBLIC,)})
        assert await talk.sql(1, "select 1") == "AUTH_JWT_INVALID"
        site.check.use_database_keys({"data": (PUBLIC,)})
        assert await talk.sql(1, "select b from t") == [["one"]]

    site.node.run(scenario())


def test_the_token_of_grpc_web_comes_with_the_handshake(site: Site) -> None:
    async def scenario() -> None:
        reader = b"Bearer " + make_token(SECRET, read_only=True).encode()
        talk = site.talk([(b"x-authorization", reader)])
        assert await talk.hello(None) == {"type": "hello_ok"}
        await talk.ask("open_stream", stream_id=1)
        assert await talk.sql(1, "delete from t") == "FORBIDDEN"

    site.node.run(scenario())


def test_scopes_count_for_the_database_of_the_connection(site: Site) -> None:
    async def scenario() -> None:
        check = site.check = Authenticator(SECRET, keys=(PUBLIC,))
        assert check is site.check
        talk = await opened(site.talk(), elsewhere(p={"ro": {"ns": ["default"]}, "rw": {"ns": ["other"]}}))
        assert await talk.sql(1, "delete from t") == "FORBIDDEN"
        await talk.hello(elsewhere(p={"ro": {"ns": ["other"]}, "rw": {"ns": ["default"]}}))
        assert await talk.sql(1, "delete from t") == []

    site.node.run(scenario())
