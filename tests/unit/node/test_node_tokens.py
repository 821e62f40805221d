from base64 import b64encode

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from pando.errors import Forbidden, InvalidRequest, Unauthorized, UnknownDatabase
from pando.node.secret import SQL_TOKEN_LABEL, derive_key
from pando.node.tokens import Authenticator, database_keys, issue_token, make_token, token_id
from pando.testing.virtual_clock import VirtualClock

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


# -- ids and names -----------------------------------------------------------------------------------------------------


def test_tokens_have_ids_and_names():
    clock = VirtualClock()
    made = issue_token(SECRET, name="shop", databases=["a", "default", "a"], life_s=60, clock=clock)
    assert (made.name, made.databases, made.is_admin) == ("shop", ("a", "data"), False)
    assert made.expires_s == made.created_s + 60
    assert token_id(made.token) == made.id and len(made.id) == 24
    assert Authenticator(SECRET, clock=clock).authenticate(header(made.token)).databases == {"a", "data"}
    assert issue_token(SECRET).id != issue_token(SECRET).id
    assert issue_token(SECRET).is_admin and not issue_token(SECRET, read_only=True).is_admin


def test_a_token_that_would_be_too_long_is_not_made():
    with pytest.raises(InvalidRequest, match="characters"):
        issue_token(SECRET, name="x" * 201)
    with pytest.raises(InvalidRequest, match="name fewer"):
        issue_token(SECRET, databases=[f"{number:0120}" for number in range(200)])


def test_what_is_no_token_has_no_id():
    assert [token_id(text) for text in ("", "x", "a.b.c", signed({}), "ä.ö.ü")] == [""] * 5


def test_a_revoked_token_is_refused_at_once_and_others_are_not():
    check = Authenticator(SECRET)
    revoked, kept = issue_token(SECRET), issue_token(SECRET)
    for made in (revoked, kept):
        check.authenticate(header(made.token))
    check.revoke(frozenset({revoked.id}))
    with pytest.raises(Unauthorized, match="revoked"):
        check.authenticate(header(revoked.token))
    with pytest.raises(Unauthorized):
        check.authenticate_admin(header(revoked.token))
    assert check.authenticate(header(kept.token)).is_admin
    check.revoke(frozenset())
    assert check.authenticate(header(revoked.token)).is_admin


# -- codes, headers ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ([], "AUTH_HEADER_NOT_FOUND"),
        ([(b"authorization", b"")], "AUTH_HEADER_MALFORMED"),
        ([(b"authorization", b"Bearer")], "AUTH_HEADER_MALFORMED"),
        ([(b"authorization", b"Bearer  ")], "AUTH_HEADER_MALFORMED"),
        ([(b"authorization", b"Bearer " + b"x" * 20_000)], "AUTH_HEADER_MALFORMED"),
        ([(b"authorization", b"Digest x")], "AUTH_HTTP_HEADER_UNSUPPORTED_SCHEME"),
        ([(b"authorization", b"Basic eDp5")], "AUTH_HTTP_HEADER_UNSUPPORTED_SCHEME"),
        ([(b"authorization", b"Bearer x")], "AUTH_JWT_INVALID"),
        ([(b"x-authorization", b"Bearer x")], "AUTH_JWT_INVALID"),
        ([(b"authorization", b"Bearer " + signed({"exp": 1}).encode())], "AUTH_JWT_EXPIRED"),
        ([(b"authorization", b"Bearer " + signed({"nbf": 1e11}).encode())], "AUTH_JWT_IMMATURE"),
    ],
)
def test_refusals_have_the_codes_of_sqld(headers, code):
    with pytest.raises(Unauthorized) as caught:
        Authenticator(SECRET).authenticate(headers)
    assert caught.value.code == code


def test_grpc_web_sends_its_token_under_another_name():
    check = Authenticator(SECRET)
    reader = b"bearer " + make_token(SECRET, read_only=True).encode()
    assert check.authenticate([(b"x-authorization", reader)]).read_only
    both = [(b"x-authorization", reader), (b"authorization", b"Bearer " + make_token(SECRET).encode())]
    assert not check.authenticate(both).read_only


# -- HTTP basic --------------------------------------------------------------------------------------------------------


def basic(text):
    return [(b"authorization", b"Basic " + b64encode(text.encode()))]


def test_basic():
    check = Authenticator(SECRET, basic="me:secret")
    for _ in range(2):
        access = check.authenticate(basic("me:secret"))
        access.check_database("data")
        access.check_write("data")
    assert check.authenticate([(b"authorization", basic("me:secret")[0][1].rstrip(b"="))]) is access
    with pytest.raises(Forbidden):
        check.authenticate_admin(basic("me:secret"))
    for wrong in ("me:secre", "me:secret2", "xme:secret", "", "me", ":", "me:Secret"):
        with pytest.raises(Unauthorized):
            check.authenticate(basic(wrong))
    with pytest.raises(Unauthorized) as caught:
        check.authenticate([(b"authorization", b"Basic " + basic("me:secret")[0][1][6:] * 2)])
    assert caught.value.code == "AUTH_BASIC_REJECTED"
    assert check.authenticate(header(make_token(SECRET))).is_admin


# -- keys elsewhere ----------------------------------------------------------------------------------------------------

PRIVATE = [Ed25519PrivateKey.generate() for _ in range(3)]
PUBLIC = [key.public_key().public_bytes_raw() for key in PRIVATE]


def elsewhere(claims, number=0):
    return header(jwt.encode(claims, PRIVATE[number], algorithm="EdDSA"))


def test_tokens_of_each_public_key_are_taken_but_never_as_an_administrators():
    check = Authenticator(SECRET, keys=tuple(PUBLIC[:2]))
    for number in (0, 1):
        access = check.authenticate(elsewhere({"admin": True}, number))
        access.check_database("any")
        access.check_write("any")
        with pytest.raises(Forbidden):
            check.authenticate_admin(elsewhere({"admin": True}, number))
    with pytest.raises(Unauthorized) as caught:
        check.authenticate(elsewhere({}, 2))
    assert caught.value.code == "AUTH_JWT_INVALID"
    assert check.authenticate(elsewhere({"id": "one", "a": "ro"})).read_only
    assert check.authenticate(header(make_token(SECRET))).is_admin


def test_clocks_of_those_who_sign_elsewhere_may_be_a_minute_off():
    clock = VirtualClock()
    check = Authenticator(SECRET, keys=(PUBLIC[0],), clock=clock)
    now_s = clock.wall_ms() // 1000
    token = elsewhere({"exp": now_s - 59})
    check.authenticate(token)
    clock.advance(2)
    for _ in range(2):
        with pytest.raises(Unauthorized) as caught:
            check.authenticate(token)
    assert caught.value.code == "AUTH_JWT_EXPIRED"


def test_tokens_for_another_audience_are_refused():
    check = Authenticator(SECRET, keys=(PUBLIC[0],))
    for aud in ("x", ["x", "y"], ""):
        with pytest.raises(Unauthorized) as caught:
            check.authenticate(elsewhere({"aud": aud}))
        assert caught.value.code == "AUTH_FAILED"


def test_tokens_signed_elsewhere_can_be_revoked_by_their_id():
    check = Authenticator(SECRET, keys=(PUBLIC[0],))
    check.authenticate(elsewhere({"jti": "x"}))
    check.revoke(frozenset({"x"}))
    with pytest.raises(Unauthorized, match="revoked"):
        check.authenticate(elsewhere({"jti": "x"}))


def refusal(check, headers, database):
    try:
        access = check.authenticate(headers)
        access.check_database(database)
    except (Unauthorized, UnknownDatabase) as error:
        return error.status
    return "w" if access.may_write(database) else "r"


@pytest.mark.parametrize("is_open", [False, True])
def test_a_database_with_a_key_of_its_own_takes_only_tokens_of_that_key(is_open):
    check = Authenticator(SECRET, is_open=is_open, basic="me:secret", keys=(PUBLIC[0],))
    check.use_database_keys({"shop": (PUBLIC[1],), "bank": (PUBLIC[2], PUBLIC[1])})
    for _ in range(2):
        assert refusal(check, elsewhere({}, 0), "shop") == 401
        assert refusal(check, elsewhere({}, 0), "data") == "w"
        assert refusal(check, elsewhere({}, 1), "shop") == "w"
        assert refusal(check, elsewhere({"a": "ro"}, 1), "bank") == "r"
        assert refusal(check, elsewhere({"id": "bank"}, 1), "shop") == 404
        assert refusal(check, elsewhere({}, 1), "data") == ("w" if is_open else 401)
        assert refusal(check, elsewhere({}, 2), "shop") == 401
        assert refusal(check, basic("me:secret"), "shop") == 401
        assert refusal(check, basic("me:secret"), "data") == "w"
        assert refusal(check, [], "shop") == 401
        assert refusal(check, header(make_token(SECRET)), "shop") == "w"
    check.use_database_keys({})
    assert refusal(check, elsewhere({}, 0), "shop") == "w"
    assert refusal(check, elsewhere({}, 1), "shop") == ("w" if is_open else 401)


def test_a_token_whose_database_is_not_known_yet_may_do_nothing():
    check = Authenticator(SECRET)
    check.use_database_keys({"shop": (PUBLIC[1],)})
    access = check.authenticate(elsewhere({}, 1))
    assert access.read_only and access.databases == frozenset() and not access.is_admin
    with pytest.raises(Forbidden):
        access.check_write()
    access.check_database("shop")
    access.check_write("shop")
    assert check.authenticate(elsewhere({}, 1)) is access  # it holds for a database: remembered
    other = check.authenticate(elsewhere({}, 2))
    assert check.authenticate(elsewhere({}, 2)) is not other


def test_new_keys_of_a_database_count_at_once():
    check = Authenticator(SECRET)
    check.use_database_keys({"shop": (PUBLIC[1],)})
    held = check.authenticate(elsewhere({}, 1))
    held.check_database("shop")
    check.use_database_keys(database_keys({"shop": b64encode(PUBLIC[2]).decode().replace("+", "-").replace("/", "_")}))
    assert refusal(check, elsewhere({}, 1), "shop") == 401
    assert refusal(check, elsewhere({}, 2), "shop") == "w"


def test_a_key_that_cannot_be_read_locks_its_database():
    check = Authenticator(SECRET, keys=(PUBLIC[0],))
    check.use_database_keys(database_keys({"shop": "no key"}))
    assert refusal(check, elsewhere({}), "shop") == 401
    assert refusal(check, header(make_token(SECRET)), "shop") == "w"


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_any_header_is_answered(value):
    for check in (Authenticator(SECRET, keys=(PUBLIC[0],), basic="a:b"), Authenticator(SECRET, is_open=True)):
        try:
            check.authenticate([(b"authorization", value)])
        except Unauthorized as error:
            assert error.code.startswith("AUTH_")
