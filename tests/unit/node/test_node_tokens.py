import jwt
import pytest

from pando.clock import VirtualClock
from pando.errors import Forbidden, InvalidRequest, Unauthorized, UnknownDatabase
from pando.node.secret import SQL_TOKEN_LABEL, derive_key
from pando.node.tokens import Authenticator, make_token

SECRET = "the cluster's secret"


def header(token):
    return [(b"host", b"x"), (b"authorization", b"Bearer " + token.encode())]


def signed(claims, key=None, algorithm="HS256"):
    return jwt.encode(claims, key or derive_key(SECRET, SQL_TOKEN_LABEL), algorithm=algorithm)


def test_an_unrestricted_token_does_everything():
    access = Authenticator(SECRET).authenticate(header(make_token(SECRET)))
    access.check_write()
    access.check_database("anything")
    access.check_admin()


def test_restricted_tokens_do_less():
    check = Authenticator(SECRET)
    reader = check.authenticate(header(make_token(SECRET, read_only=True)))
    with pytest.raises(Forbidden):
        reader.check_write()
    with pytest.raises(Forbidden):
        reader.check_admin()
    shop = check.authenticate(header(make_token(SECRET, database="shop")))
    shop.check_write()
    shop.check_database("shop")
    with pytest.raises(UnknownDatabase):
        shop.check_database("data")
    with pytest.raises(Forbidden):
        check.authenticate_admin(header(make_token(SECRET, is_admin=False)))


def test_a_restricted_administrator_is_a_contradiction():
    with pytest.raises(InvalidRequest):
        make_token(SECRET, read_only=True, is_admin=True)
    forged = Authenticator(SECRET).authenticate(header(signed({"a": "ro", "admin": True})))
    assert not forged.is_admin


def test_claims_of_sqld_are_understood():
    check = Authenticator(SECRET)
    access = check.authenticate(header(signed({"id": "default", "a": "ro"})))
    assert access.databases == {"data"}
    assert access.read_only
    assert check.authenticate(header(signed({}))).databases is None
    assert check.authenticate(header(signed({"db": ["a", "b"], "aud": "x", "iss": "y"}))).databases == {"a", "b"}


@pytest.mark.parametrize(
    "token",
    [
        "",
        "garbage",
        "a.b.c",
        make_token("another secret"),
        signed({"a": "rw"}, key=SECRET.encode().ljust(32)),
        jwt.encode({"a": "rw"}, None, algorithm="none"),
        signed({"a": "admin"}),
        signed({"id": 7}),
        signed({"id": "../x"}),
        signed({"exp": "soon"}),
        signed({"exp": True}),
        "x" * 5000,
    ],
)
def test_bad_tokens_are_unauthorized(token):
    with pytest.raises(Unauthorized):
        Authenticator(SECRET).authenticate(header(token))


@pytest.mark.parametrize("headers", [[], [(b"authorization", b"Basic eDp5")], [(b"authorization", b"Bearer")]])
def test_no_token_is_unauthorized_unless_open(headers):
    with pytest.raises(Unauthorized):
        Authenticator(SECRET).authenticate(headers)
    access = Authenticator(SECRET, is_open=True).authenticate(headers)
    access.check_write()
    with pytest.raises((Unauthorized, Forbidden)):
        Authenticator(SECRET, is_open=True).authenticate_admin(headers)


def test_a_token_expires_also_from_the_cache():
    clock = VirtualClock()
    check = Authenticator(SECRET, clock=clock)
    token = make_token(SECRET, life_s=60, clock=clock)
    for _ in range(3):
        check.authenticate(header(token))
    clock.advance(61)
    for _ in range(2):
        with pytest.raises(Unauthorized, match="expired"):
            check.authenticate(header(token))


def test_an_open_node_still_honours_the_limits_of_a_valid_token():
    check = Authenticator(SECRET, is_open=True)
    assert check.authenticate(header(make_token(SECRET, read_only=True))).read_only
    assert check.authenticate_admin(header(make_token(SECRET))).is_admin


def test_the_cache_is_bounded():
    check = Authenticator(SECRET, cached_max=3)
    made = [make_token(SECRET, database=f"d{number}") for number in range(6)]
    for token in made:
        check.authenticate(header(token))
    assert len(check._known) == 3
    assert check.authenticate(header(made[0])).databases == {"d0"}
