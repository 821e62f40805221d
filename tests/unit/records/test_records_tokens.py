import base64
import hmac
import json

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pando.errors import InvariantError
from pando.records.auth.tokens import (
    TOKEN_CHARS_MAX,
    Claims,
    Issuer,
    TokenKind,
    VerifiedTokens,
    make_token,
    options_of,
    read_claims,
    verify_token,
)
from pando.records.model import AuthOptions, TokenOptions

KEY, SECRET = "k" * 50, "s" * 50
NOW = 1_800_000_000.5
AUTH = AuthOptions(
    auth_token=TokenOptions(secret=SECRET, duration=1000),
    file_token=TokenOptions(secret="file" * 10, duration=180),
    verification_token=TokenOptions(secret="verification" * 3, duration=300),
    password_reset_token=TokenOptions(secret="password" * 5, duration=400),
    email_change_token=TokenOptions(secret="change" * 6, duration=500),
)
ISSUER = Issuer(record_id="r1", collection_id="c1", token_key=KEY, auth=AUTH)
ISSUED = {
    TokenKind.AUTH: (ISSUER.auth_token(NOW), 1000, {"refreshable": True}),
    TokenKind.FILE: (ISSUER.file_token(NOW), 180, {}),
    TokenKind.VERIFICATION: (ISSUER.verification_token(NOW, "a@b.c"), 300, {"email": "a@b.c"}),
    TokenKind.PASSWORD_RESET: (ISSUER.password_reset_token(NOW, "a@b.c"), 400, {"email": "a@b.c"}),
    TokenKind.EMAIL_CHANGE: (
        ISSUER.email_change_token(NOW, "a@b.c", "d@e.f"),
        500,
        {"email": "a@b.c", "newEmail": "d@e.f"},
    ),
}


def encoded(data):
    text = data if isinstance(data, bytes) else json.dumps(data).encode()
    return base64.urlsafe_b64encode(text).rstrip(b"=").decode()


def foreign(claims, *, key=KEY + SECRET, algorithm="HS256", headers=None):
    return jwt.encode(claims, key, algorithm=algorithm, headers=headers)


def claims_of(**changes):
    return {"type": "auth", "id": "r1", "collectionId": "c1", "exp": 1_900_000_000, "refreshable": True} | changes


@pytest.mark.parametrize("kind", list(TokenKind))
def test_pyjwt_reads_what_is_issued(kind):
    token, duration, more = ISSUED[kind]
    secret = options_of(kind, AUTH).secret
    found = jwt.decode(token, KEY + secret, algorithms=["HS256"], options={"verify_exp": False})
    assert found == {"type": kind.value, "id": "r1", "collectionId": "c1", "exp": int(NOW) + duration} | more
    assert jwt.get_unverified_header(token) == {"alg": "HS256", "typ": "JWT"}
    assert verify_token(token, KEY, secret, NOW).type is kind


@pytest.mark.parametrize("kind", list(TokenKind))
def test_a_token_of_one_kind_does_not_hold_for_another(kind):
    token = ISSUED[kind][0]
    others = [options_of(other, AUTH).secret for other in TokenKind if other is not kind]
    assert [verify_token(token, KEY, secret, NOW) for secret in others] == [None] * 4


def test_what_pyjwt_makes_is_verified():
    found = verify_token(foreign(claims_of()), KEY, SECRET, NOW)
    assert found == Claims(type=TokenKind.AUTH, id="r1", collection_id="c1", exp=1_900_000_000, refreshable=True)
    assert verify_token(foreign(claims_of(), headers={"kid": "x"}), KEY, SECRET, NOW) == found


def test_impersonation_cannot_be_refreshed_and_has_its_own_life():
    found = read_claims(ISSUER.auth_token(NOW, is_refreshable=False, duration_s=77))
    assert (found.refreshable, found.exp) == (False, int(NOW) + 77)


@pytest.mark.parametrize(
    "token",
    [
        "",
        ".",
        "..",
        "a.b",
        "a.b.c.d",
        "é.é.é",
        encoded({"alg": "HS256"}) + ".!!.",
        encoded({"alg": "HS256"}) + "." + encoded(b"{") + ".x",
        encoded({"alg": "HS256"}) + "." + encoded(b"[" * 2000) + ".x",
        encoded({"alg": "HS256"}) + "." + encoded(b'{"x":' + b"[" * 2000) + ".x",
        foreign(claims_of(type="other")),
        foreign({"id": "r1", "collectionId": "c1", "exp": 1}),
        foreign({"type": "auth", "id": "r1", "collectionId": "c1"}),
        foreign(claims_of(id=7)),
        foreign(claims_of(note="x" * TOKEN_CHARS_MAX)),
    ],
)
def test_what_is_no_token_says_nothing(token):
    assert read_claims(token) is None
    assert verify_token(token, KEY, SECRET, NOW) is None


@given(st.text(max_size=200) | st.builds(lambda *parts: ".".join(map(encoded, parts)), *[st.binary(max_size=60)] * 3))
def test_reading_never_raises(text):
    assert read_claims(text) is None
    assert verify_token(text, KEY, SECRET, NOW) is None


@pytest.mark.parametrize(
    "token",
    [
        foreign(claims_of(), key=KEY + SECRET + "x"),
        foreign(claims_of(), key=SECRET + KEY),
        foreign(claims_of(), algorithm="HS384"),
        foreign(claims_of(), algorithm="HS512"),
        foreign(claims_of(exp=int(NOW))),
        foreign(claims_of(), headers={"crit": ["exp"]}),
        jwt.encode(claims_of(), None, algorithm="none"),
        foreign(claims_of())[:-1],
        foreign(claims_of()) + "=",
        foreign(claims_of()).rpartition(".")[0] + ".",
        foreign(claims_of()).rpartition(".")[0] + ".é",
    ],
)
def test_what_was_not_signed_with_this_key_is_refused(token):
    assert verify_token(token, KEY, SECRET, NOW) is None


def test_a_header_that_claims_another_algorithm_is_refused_with_a_good_signature():
    signed = encoded({"alg": "none", "typ": "JWT"}) + "." + encoded(claims_of())
    head, _, _ = foreign(claims_of()).partition(".")
    good = make_token(read_claims(foreign(claims_of())), KEY, SECRET)
    assert good.startswith(head + ".")
    signature = encoded(hmac.digest((KEY + SECRET).encode(), signed.encode(), "sha256"))
    assert read_claims(f"{signed}.{signature}") is not None
    assert verify_token(f"{signed}.{signature}", KEY, SECRET, NOW) is None


def test_flipping_any_character_breaks_the_signature():
    token = ISSUED[TokenKind.FILE][0]
    secret = AUTH.file_token.secret
    for place, character in enumerate(token):
        other = "A" if character != "A" else "B"
        assert verify_token(token[:place] + other + token[place + 1 :], KEY, secret, NOW) is None


def test_a_token_is_over_at_its_last_second():
    token = foreign(claims_of(exp=100))
    assert verify_token(token, KEY, SECRET, 99.9) is not None
    assert verify_token(token, KEY, SECRET, 100) is None


@pytest.mark.parametrize(("key", "secret"), [("", SECRET), (KEY, ""), ("", "")])
def test_nothing_is_signed_or_verified_without_a_whole_key(key, secret):
    claims = read_claims(foreign(claims_of()))
    with pytest.raises(InvariantError):
        make_token(claims, key, secret)
    signed = foreign(claims_of(), key=key + secret or "x" * 32)
    assert verify_token(signed, key, secret, NOW) is None


def test_what_is_remembered_holds_for_its_key_and_time_only():
    known = VerifiedTokens()
    token = foreign(claims_of(exp=200))
    first = known.verify(token, KEY, SECRET, 100)
    assert known.verify(token, KEY, SECRET, 199) is first and known.read(token) is first
    assert known.verify(token, "other" * 10, SECRET, 100) is None
    assert len(known) == 0
    assert known.verify(token, KEY, SECRET, 100) is not None
    assert known.verify(token, KEY, "other" * 10, 100) is None
    assert known.verify(token, KEY, SECRET, 100) is not None
    assert known.verify(token, KEY, SECRET, 200) is None and len(known) == 0


def test_the_key_is_not_its_parts_joined():
    known = VerifiedTokens()
    token = foreign(claims_of())
    assert known.verify(token, KEY, SECRET, NOW) is not None
    assert known.verify(token, KEY + SECRET[:1], SECRET[1:], NOW) is not None  # the same bytes: verified again


def test_what_is_remembered_is_bounded_and_the_oldest_goes():
    known = VerifiedTokens(cached_max=3)
    tokens = [foreign(claims_of(id=f"r{number}")) for number in range(5)]
    for token in tokens:
        assert known.verify(token, KEY, SECRET, NOW) is not None
    assert len(known) == 3
    assert known.verify(tokens[0], KEY, SECRET, NOW).id == "r0"


def test_what_did_not_hold_is_not_remembered():
    known = VerifiedTokens()
    assert known.verify(foreign(claims_of(), key="x" * 32), KEY, SECRET, NOW) is None
    assert len(known) == 0
