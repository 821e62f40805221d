"""JSON Web Tokens in their compact form: taken apart, signed (HS256), checked (HS256, Ed25519). RFC 7515 and 8037.

Which check is made is the caller's choice by the key that it brings, never the token's alone. The library for Ed25519
is loaded when the first such token comes. Not here: what claims mean
(`pando.node.claims`, `pando.records.auth.tokens`).
"""

from __future__ import annotations

import hashlib
import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import msgspec
from msgspec import UNSET, UnsetType

HS256: Final = "HS256"
EDDSA: Final = "EdDSA"
_HS256_HEADER: Final = urlsafe_b64encode(b'{"alg":"HS256","typ":"JWT"}').rstrip(b"=")


class _Header(msgspec.Struct, frozen=True):
    alg: str
    crit: msgspec.Raw | UnsetType = UNSET


_decode_header: Final = msgspec.json.Decoder(_Header).decode


class NoToken(Exception):
    """The bytes are no token in compact form."""


@dataclass(frozen=True, slots=True)
class Jws:
    """A token taken apart; nothing of it is checked yet."""

    algorithm: str
    payload: bytes
    signed: bytes
    signature: bytes


def take_apart(token: bytes) -> Jws:
    """Split and decode a token. Raises NoToken."""
    signed, _, signature = token.rpartition(b".")
    header, dot, payload = signed.partition(b".")
    if not dot or b"." in payload:
        raise NoToken
    try:
        says = _decode_header(_decode(header))
        parts = Jws(says.alg, _decode(payload), signed, _decode(signature))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:  # the last: deep JSON
        raise NoToken from error
    if says.crit is not UNSET:
        raise NoToken  # an extension that must be understood, and is not
    return parts


def _decode(part: bytes) -> bytes:
    if b"=" in part or b"+" in part or b"/" in part:
        raise NoToken
    try:
        decoded = urlsafe_b64decode(part + b"=" * (-len(part) % 4))
    except (Base64Error, ValueError) as error:
        raise NoToken from error
    if urlsafe_b64encode(decoded).rstrip(b"=") != part:
        raise NoToken  # bytes that the decoder skipped: two texts would be the same token
    return decoded


def sign(payload: bytes, key: bytes) -> str:
    """Make a token with HS256."""
    signed = _HS256_HEADER + b"." + urlsafe_b64encode(payload).rstrip(b"=")
    signature = urlsafe_b64encode(hmac.digest(key, signed, hashlib.sha256)).rstrip(b"=")
    return (signed + b"." + signature).decode()


def holds_hs256(jws: Jws, key: bytes) -> bool:
    """Tell whether a token is signed with this secret key."""
    return jws.algorithm == HS256 and hmac.compare_digest(jws.signature, hmac.digest(key, jws.signed, hashlib.sha256))


def holds_ed25519(jws: Jws, keys: Iterable[bytes]) -> bool:
    """Tell whether a token is signed with the private key of one of these public keys."""
    if jws.algorithm != EDDSA:
        return False
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    for key in keys:
        try:
            Ed25519PublicKey.from_public_bytes(key).verify(jws.signature, jws.signed)
        except (InvalidSignature, ValueError):
            continue
        return True
    return False
