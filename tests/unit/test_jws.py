import hashlib
import hmac
import json
from base64 import urlsafe_b64encode

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from pando.jws import NoToken, holds_ed25519, holds_hs256, sign, take_apart

KEY = b"k" * 32
PRIVATE = Ed25519PrivateKey.generate()
PUBLIC = PRIVATE.public_key().public_bytes_raw()


def test_another_library_reads_what_is_signed_here():
    assert jwt.decode(sign(b'{"a":"rw"}', KEY), KEY, algorithms=["HS256"]) == {"a": "rw"}


def test_what_another_library_signed_holds_here():
    jws = take_apart(jwt.encode({"a": "ro"}, KEY, algorithm="HS256").encode())
    assert holds_hs256(jws, KEY) and json.loads(jws.payload) == {"a": "ro"}
    assert not holds_hs256(jws, b"x" * 32)
    assert not holds_ed25519(jws, [KEY])
    jws = take_apart(jwt.encode({"a": "ro"}, PRIVATE, algorithm="EdDSA").encode())
    assert holds_ed25519(jws, [KEY, PUBLIC])
    assert not holds_ed25519(jws, [KEY]) and not holds_ed25519(jws, [])


def test_a_public_key_never_serves_as_a_secret():
    """The old trick: a token "signed" with HS256 under the bytes of a public key."""
    jws = take_apart(jwt.encode({}, PUBLIC, algorithm="HS256").encode())
    assert not holds_ed25519(jws, [PUBLIC])
    assert not holds_hs256(jws, KEY)


def test_a_change_of_any_byte_breaks_the_signature():
    token = sign(b'{"a":"ro","jti":"x"}', KEY).encode()
    for place in range(len(token)):
        changed = token[:place] + bytes([token[place] ^ 1]) + token[place + 1 :]
        try:
            assert not holds_hs256(take_apart(changed), KEY), place
        except NoToken:
            continue


def encoded(header):
    parts = urlsafe_b64encode(json.dumps(header).encode()).rstrip(b"=") + b".e30"
    return parts + b"." + urlsafe_b64encode(hmac.digest(KEY, parts, hashlib.sha256)).rstrip(b"=")


@pytest.mark.parametrize(
    "token",
    [
        b"",
        b"a",
        b"a.b",
        b"..",
        b"a.b.c",
        b"e30.e30.",
        sign(b"{}", KEY).encode() + b"=",
        sign(b"{}", KEY).encode() + b".e30",
        b"\xff." + sign(b"{}", KEY).encode(),
        encoded({"alg": "HS256", "crit": ["exp"]}),
        encoded({"alg": 7}),
        encoded({}),
        encoded([]),
        urlsafe_b64encode(b'{"alg":"HS256","x":' + b"[" * 100_000).rstrip(b"=") + b".e30.e30",
    ],
)
def test_what_is_no_token_is_told_apart(token):
    with pytest.raises(NoToken):
        take_apart(token)


@pytest.mark.parametrize("algorithm", ["none", "HS512", "hs256", ""])
def test_the_algorithm_is_not_the_tokens_choice(algorithm):
    assert holds_hs256(take_apart(encoded({"alg": "HS256"})), KEY)
    assert not holds_hs256(take_apart(encoded({"alg": algorithm})), KEY)


@given(st.binary(max_size=300))
def test_any_bytes_are_a_token_or_none(data):
    try:
        take_apart(data)
    except NoToken:
        return


@given(st.binary(max_size=500))
def test_what_is_signed_comes_back(payload):
    jws = take_apart(sign(payload, KEY).encode())
    assert jws.payload == payload and holds_hs256(jws, KEY)
