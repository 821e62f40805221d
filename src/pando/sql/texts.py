"""The SQL texts that a client stores, to name them by number: of a stream over HTTP, of a connection over WebSocket.

A text that could not be stored is remembered with the reason, so that what uses it fails with that. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from pando import limits
from pando.sql.messages import HranaProtocolError
from pando.store.requests import Failure


@dataclass(slots=True, eq=False)
class StoredTexts:
    """Texts by their numbers."""

    stored: dict[int, str] = field(default_factory=dict)
    refused: dict[int, Failure] = field(default_factory=dict)
    """Texts that could not be stored; what uses them fails with the reason."""

    def __bool__(self) -> bool:
        return bool(self.stored) or bool(self.refused)

    @property
    def chars(self) -> int:
        """Length of all texts together."""
        return sum(map(len, self.stored.values())) if self.stored else 0

    def store(self, sql_id: int, sql: str) -> Failure | None:
        """Keep a text; gives the failure if there is no room. Raises HranaProtocolError for a number in use."""
        if sql_id in self.stored:
            raise HranaProtocolError(f"SQL text {sql_id} is stored already")
        failure = self._why_not(sql)
        if failure is None:
            self.stored[sql_id] = sql
        elif len(self.refused) < limits.STORED_SQL_MAX:
            self.refused[sql_id] = failure
        return failure

    def _why_not(self, sql: str) -> Failure | None:
        if len(sql) > limits.SQL_SIZE_BYTES_MAX:
            return Failure(f"SQL text is longer than {limits.SQL_SIZE_BYTES_MAX} characters", "SQL_STORE_TOO_LARGE")
        if len(self.stored) + len(self.refused) >= limits.STORED_SQL_MAX:
            return Failure(
                f"{limits.STORED_SQL_MAX} SQL texts may be stored; close some with close_sql", "SQL_STORE_TOO_MANY"
            )
        if self.chars + len(sql) > limits.STORED_SQL_CHARS_MAX:
            return Failure(
                f"the stored SQL texts may have {limits.STORED_SQL_CHARS_MAX} characters together",
                "SQL_STORE_TOO_LARGE",
            )
        return None

    def close(self, sql_id: int) -> None:
        """Forget a text; an unknown number is fine."""
        self.stored.pop(sql_id, None)
        self.refused.pop(sql_id, None)

    def refusal(self, sql_ids: Iterable[int]) -> Failure | None:
        """Give why one of these could not be stored, None if none was refused."""
        if not self.refused:
            return None
        return next((self.refused[number] for number in sql_ids if number in self.refused), None)
