"""Where a command goes and with which token: option, environment, or the secret of the directory.

Not here: what a token holds (see `pando.node.tokens`).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from pando.cli.options import DEFAULT_URL
from pando.errors import InvalidSetting
from pando.node.address_file import noted_address
from pando.node.secret import SECRET_FILE

TOKEN_LIFE_S = 12 * 3600.0
"""How long a token lasts that a command makes for itself."""
UP_LOCK_FILE = Path(".pando", "up.lock")
"""In the directory of a `pando up`, which is no node itself (see `pando.node.local_cluster`)."""
SECRET_VARIABLES = ("PANDO_SECRET", "JWT_SECRET")


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A server's address and the token to show there, if one is known."""

    url: str
    token: str | None


def find_target(url: str, directory: Path, token: str) -> Target:
    """Give address and token: what was said, else where the directory's node answers, and a token of its secret."""
    return Target(url=url or noted_address(directory) or DEFAULT_URL, token=token or own_token(directory))


def own_token(directory: Path) -> str | None:
    """Make a short-lived token when the secret is at hand; None when it is not."""
    secret = find_secret(directory)
    return None if secret is None else make_token(secret, life_s=TOKEN_LIFE_S)


def read_secret(directory: Path) -> str:
    """Give the cluster's secret; raises InvalidSetting when it is not at hand."""
    secret = find_secret(directory)
    if secret is None:
        raise InvalidSetting(
            f"there is no secret in {directory / SECRET_FILE}: give the directory of a node with --dir, or PANDO_SECRET"
        )
    return secret


def find_secret(directory: Path) -> str | None:
    """Look for the secret in the environment, then in the directory: of a node, a `pando up`, or a node of that.

    A node of `pando up` is given the secret; what its own directory may hold is another one.
    """
    for name in SECRET_VARIABLES:
        if os.environ.get(name):
            return os.environ[name]
    above = directory.absolute().parent
    cluster = [above] if (above / UP_LOCK_FILE).exists() else []
    for place in (*cluster, directory, *sorted(path for path in directory.glob("*") if path.is_dir())):
        try:
            return (place / SECRET_FILE).read_text().strip()
        except OSError:  # not there, or not ours to read: the next place
            continue
    return None


def make_token(secret: str, *, read_only: bool = False, database: str = "", life_s: float | None = None) -> str:
    """Make a token that the cluster with this secret accepts."""
    from pando.node.tokens import make_token as make

    return make(secret, read_only=read_only, database=database, life_s=life_s)
