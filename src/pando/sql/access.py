"""What a caller may do with the databases of a node, once a token has been checked. Not here: tokens."""

from __future__ import annotations

from dataclasses import dataclass

from pando.errors import Forbidden, UnknownDatabase


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """Rights of one request. `databases` None means all.

    Who asks `check_database` first, and then `check_write` or `may_write` for the same database, asks all.
    """

    read_only: bool = False
    databases: frozenset[str] | None = None
    is_admin: bool = False
    """Whether it opens the routes of the cluster, and the system database for reading."""
    writable: frozenset[str] = frozenset()
    """Databases that may be written although `read_only`."""

    def check_database(self, name: str) -> None:
        """Raise UnknownDatabase unless the database may be used: its existence is nobody else's business (as sqld)."""
        if self.databases is not None and name not in self.databases:
            raise UnknownDatabase(f"database {name!r} does not exist, or this token is not for it")

    def may_write(self, database: str) -> bool:
        """Tell whether a database that may be used may be written too."""
        return not self.read_only or database in self.writable

    def check_write(self, database: str = "") -> None:
        """Raise Forbidden for a token that may only read."""
        if not self.may_write(database):
            raise Forbidden("this token may only read; use one with write access")


FULL_ACCESS = Access()
"""What everybody has when authentication is off."""
