"""Ed25519 public keys in the forms that operators have them in: PEM, or the 32 bytes in URL-safe base64.

Pure, and read by hand, since the frame around such a key never changes (RFC 8410): who has none never loads a library
for them. Not here: checking signatures (`pando.jws`).
"""

from __future__ import annotations

import re
from base64 import b64decode, urlsafe_b64decode
from binascii import Error as Base64Error
from typing import Final

from pando.errors import InvalidRequest

KEYS_MAX: Final = 64
"""Each of them may be tried on a token."""
KEYS_TEXT_MAX: Final = 64 * 1024
KEY_BYTES: Final = 32
_SPKI: Final = bytes.fromhex("302a300506032b6570032100")
"""What stands before the key in SubjectPublicKeyInfo."""
_BLOCK = re.compile(r"-----BEGIN ([A-Z0-9 ]{1,40})-----(.*?)-----END \1-----", re.DOTALL)


def parse_public_keys(text: str) -> tuple[bytes, ...]:
    """Read one or more keys; raises InvalidRequest."""
    if len(text) > KEYS_TEXT_MAX:
        raise InvalidRequest(f"the keys have {len(text)} characters; at most {KEYS_TEXT_MAX} are read")
    text = text.replace("\\n", "\n")  # as PEM is often written into one line of an environment file
    keys = [_from_pem(found.group(1), found.group(2)) for found in _BLOCK.finditer(text)]
    keys += [_from_base64(word) for word in _BLOCK.sub("\n", text).split()]
    if not 0 < len(keys) <= KEYS_MAX:
        raise InvalidRequest(f"1 to {KEYS_MAX} Ed25519 public keys are needed, in PEM or URL-safe base64")
    return tuple(dict.fromkeys(keys))


def _from_pem(label: str, content: str) -> bytes:
    if "PRIVATE" in label:
        raise InvalidRequest(
            "this is a private key; the public key is needed, and the private one stays with who signs"
        )
    try:
        der = b64decode("".join(content.split()), validate=True)
    except (Base64Error, ValueError):
        der = b""
    if label != "PUBLIC KEY" or not der.startswith(_SPKI) or len(der) != len(_SPKI) + KEY_BYTES:
        raise InvalidRequest(f"the PEM block {label!r} holds no Ed25519 public key")
    return der[len(_SPKI) :]


def _from_base64(word: str) -> bytes:
    try:
        key = urlsafe_b64decode(word.rstrip("=") + "=" * (-len(word.rstrip("=")) % 4))
    except (Base64Error, ValueError):
        key = b""
    if len(key) != KEY_BYTES:
        raise InvalidRequest("a key outside of PEM must be the 32 bytes of an Ed25519 public key in URL-safe base64")
    return key
