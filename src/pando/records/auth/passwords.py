"""Passwords as bcrypt hashes of PocketBase's form (`$2a$10$...`), and the threads in which they are made and checked.

bcrypt reads 72 bytes of a password and no more; what is longer is cut here, since the library refuses it. `$2b$` and
`$2y$` are the same thing under later names and are accepted. A check takes tens of milliseconds on purpose: it runs in
a thread, a few at once, and callers past a bound are turned away rather than made to wait for minutes. An identity
that nobody has costs as much as a check, so that its absence cannot be told by time.
Not here: how long a password must be (`pando.records.fields`), whose hash it is (`pando.records.signing_in`).
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Callable
from typing import Final

import bcrypt

from pando.clock import random_bytes
from pando.errors import invariant
from pando.records.workers import Workers

COST_DEFAULT: Final = 10
COST_MIN: Final = 4
COST_MAX: Final = 20
"""A check takes about a minute at this cost; bcrypt goes to 31, which is a day, and a thread cannot be stopped."""
PASSWORD_BYTES_MAX: Final = 72
"""bcrypt's own bound."""
WAITING_PER_THREAD_MAX: Final = 128
"""Checks that may wait for one thread: some ten seconds at the usual cost."""

_SALT_BYTES: Final = 16
_FORM: Final = re.compile(r"\$2[aby]\$(\d\d)\$[./A-Za-z0-9]{53}")
_TO_BCRYPT: Final = bytes.maketrans(
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/",
    b"./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789",
)


def cost_of(hashed: str) -> int | None:
    """Give the cost of a hash; None if it is none, or one too dear to check."""
    found = _FORM.fullmatch(hashed)
    cost = int(found[1]) if found else 0
    return cost if COST_MIN <= cost <= COST_MAX else None


def hash_password(password: str, salt: bytes, cost: int = COST_DEFAULT) -> str:
    """Hash with 16 random bytes. Cost 0 means the default; others are moved into COST_MIN..COST_MAX."""
    invariant(len(salt) == _SALT_BYTES, "a salt has 16 bytes", size=len(salt))
    bounded = min(max(cost or COST_DEFAULT, COST_MIN), COST_MAX)
    settings = b"$2a$%02d$%s" % (bounded, b64encode(salt).rstrip(b"=").translate(_TO_BCRYPT))
    return bcrypt.hashpw(_first_bytes(password), settings).decode()


def check_password(password: str, hashed: str) -> bool:
    """Tell whether the hash was made of this password; what is no hash was made of none."""
    if cost_of(hashed) is None:
        return False
    return bcrypt.checkpw(_first_bytes(password), hashed.encode())


def spend_check(password: str, cost: int = COST_DEFAULT) -> None:
    """Take as long as a check does, to no end: for identities that nobody has."""
    hash_password(password, bytes(_SALT_BYTES), cost)


def _first_bytes(password: str) -> bytes:
    return password.encode("utf-8", "surrogatepass")[:PASSWORD_BYTES_MAX]


class PasswordWorker:
    """Hashes and checks in threads. Every method raises Overloaded when too many wait already."""

    def __init__(
        self,
        *,
        threads: int,
        waiting_max: int | None = None,
        random: Callable[[int], bytes] = random_bytes,
    ) -> None:
        bound = threads * WAITING_PER_THREAD_MAX if waiting_max is None else waiting_max
        self._workers = Workers("passwords", threads=threads, waiting_max=bound)
        self._random = random

    async def hash(self, password: str, cost: int = COST_DEFAULT) -> str:
        """Make the hash that is stored."""
        return await self._workers.run(hash_password, password, self._random(_SALT_BYTES), cost)

    async def check(self, password: str, hashed: str | None, cost: int = COST_DEFAULT) -> bool:
        """Check against a stored hash; None, or what is no hash, takes as long as a check at `cost` and fails."""
        if hashed is None or cost_of(hashed) is None:
            await self._workers.run(spend_check, password, cost)
            return False
        return await self._workers.run(check_password, password, hashed)

    def close(self) -> None:
        """Take no more."""
        self._workers.close()
