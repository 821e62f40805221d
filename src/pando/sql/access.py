"""What a caller may do with the databases of a node, once a token has been checked. Not here: tokens."""

from __future__ import annotations

from dataclasses import dataclass

from pando.errors import Forbidden, UnknownDatabase


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """Rights of one request. `databases` None means all."""

    read_only: bool = False
    databases: frozenset[str] | None = None

    def check_database(self, name: str) -> None:
        """Raise UnknownDatabase unless the database may be used: its existence is nobody else's business (as sqld)."""
        if self.databases is not None and name not in self.databases:
            raise UnknownDatabase(f"database {name!r} does not exist, or this token is not for it")

    def check_write(self) -> None:
        """Raise Forbidden for a token that may only read."""
        if self.read_only:
            raise Forbidden("this token may only read; use one with write access")


FULL_ACCESS = Access()
"""What everybody has when authentication is off."""
