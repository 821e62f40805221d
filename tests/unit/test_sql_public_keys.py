from base64 import b64encode, urlsafe_b64encode

import pytest
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from pando.errors import PandoError
from pando.public_keys import KEYS_MAX, KEYS_TEXT_MAX, parse_public_keys

# The same in every process: workers of one run must give the tests the same names.
PRIVATE = [Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32) for number in range(1, 4)]
RAW = [key.public_key().public_bytes_raw() for key in PRIVATE]
PEM = [key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode() for key in PRIVATE]


def short(raw):
    return urlsafe_b64encode(raw).decode().rstrip("=")


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        (PEM[0], RAW[:1]),
        ("".join(PEM), RAW),
        (short(RAW[1]), RAW[1:2]),
        (urlsafe_b64encode(RAW[1]).decode() + "\n", RAW[1:2]),
        (f"{short(RAW[0])}\n{short(RAW[1])}\n", RAW[:2]),
        (f"{PEM[0]}\n{short(RAW[2])}", [RAW[0], RAW[2]]),
        (PEM[0].replace("\n", "\\n"), RAW[:1]),
        (PEM[0].replace("\n", "\r\n"), RAW[:1]),
        (PEM[0] * 2, RAW[:1]),
    ],
)
def test_keys_are_read_in_each_form(text, keys):
    assert parse_public_keys(text) == tuple(keys)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "needed"),
        ("abc", "32 bytes"),
        ("ä" * 43, "32 bytes"),
        (short(RAW[0] + b"x"), "32 bytes"),
        (PRIVATE[0].private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode(), "private key"),
        (
            Ed448PrivateKey.from_private_bytes(bytes(57))
            .public_key()
            .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
            .decode(),
            "no Ed25519",
        ),
        (f"-----BEGIN PUBLIC KEY-----\n{b64encode(bytes(44)).decode()}\n-----END PUBLIC KEY-----", "no Ed25519"),
        ("-----BEGIN PUBLIC KEY-----\n*\n-----END PUBLIC KEY-----", "no Ed25519"),
        (PEM[0].replace("PUBLIC KEY", "CERTIFICATE"), "no Ed25519"),
        ("x" * (KEYS_TEXT_MAX + 1), "at most"),
        ("\n".join(short(bytes([n]) * 32) for n in range(KEYS_MAX + 1)), "needed"),
    ],
)
def test_what_is_no_public_key_is_refused_with_the_reason(text, words):
    with pytest.raises(PandoError, match=words):
        parse_public_keys(text)


@given(st.text(max_size=200) | st.just(PEM[0]).flatmap(lambda pem: st.integers(0, len(pem)).map(lambda n: pem[:n])))
def test_any_text_gives_keys_or_a_clear_error(text):
    try:
        assert all(len(key) == 32 for key in parse_public_keys(text))
    except PandoError as error:
        assert error.message
