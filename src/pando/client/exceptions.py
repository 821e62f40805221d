"""The exceptions of PEP 249, and which code of the server becomes which. All are PandoErrors, too.

Pure. Two of them say more than PEP 249 does: `TransactionLost` (nothing of the transaction took effect, begin again)
and `OutcomeUnknown` (a write was sent and no answer came). Not here: what is tried again (`pando.client.judging`).
"""

from __future__ import annotations

from typing import Final

from pando.errors import PandoError


class Warning(Exception):
    """Never raised; PEP 249 wants it."""


class Error(PandoError):
    """Base of all errors of this client; `code` is the server's, `extended_code` SQLite's exact one if there is one."""

    code = "CLIENT_ERROR"

    def __init__(
        self, message: str, *, code: str | None = None, extended_code: str | None = None, retryable: bool = False
    ) -> None:
        super().__init__(message, code=code)
        self.extended_code = extended_code
        self.retryable = retryable


class InterfaceError(Error):
    """What answers is no Pando node."""


class DatabaseError(Error):
    """Anything about the database; the bytes of it are damaged, if none of the other kinds is meant."""


class DataError(DatabaseError):
    """A value, a request or a result is too large, or cannot be sent."""


class OperationalError(DatabaseError):
    """SQLite or a node could not do it: syntax, missing tables, tokens, limits of time, nodes that are away."""


class IntegrityError(DatabaseError):
    """A constraint does not hold."""


class InternalError(DatabaseError):
    """A bug in Pando or in SQLite."""


class ProgrammingError(DatabaseError):
    """The program uses the connection wrongly: parameters that do not fit, a connection that is closed."""


class NotSupportedError(DatabaseError):
    """A statement that nodes do not allow, such as ATTACH."""


class TransactionLost(OperationalError):
    """The open transaction is gone, nothing of it took effect: roll back, and begin it again."""

    code = "TRANSACTION_LOST"


class OutcomeUnknown(OperationalError):
    """A write was sent, and whether it took effect is not known: look before doing it again."""

    code = "OUTCOME_UNKNOWN"


_UNKNOWN_CODES: Final = frozenset({"OUTCOME_UNKNOWN", "QUORUM_TIMEOUT"})
LOSING_CODES: Final = frozenset({"TRANSACTION_TIMEOUT", "TRANSACTION_BUSY", "STREAM_EXPIRED", "STREAM_NOT_OPEN"})
"""Inside of a transaction these mean that it is gone."""
RETRYABLE_CODES: Final = frozenset(
    {
        "BOOKMARK_TIMEOUT",
        "NOT_PRIMARY",
        "NOT_READY",
        "OVERLOADED",
        "PRIMARY_UNAVAILABLE",
        "RETRY_LATER",
        "TRANSACTION_BUSY",
    }
)
"""Nothing was done, and the same request may succeed later."""

_KINDS: Final[dict[str, type[Error]]] = {
    "SQLITE_CONSTRAINT": IntegrityError,
    "SQLITE_MISMATCH": IntegrityError,
    "SQLITE_TOOBIG": DataError,
    "RESPONSE_TOO_LARGE": DataError,
    "REQUEST_TOO_LARGE": DataError,
    "SQLITE_INTERNAL": InternalError,
    "SQLITE_NOTFOUND": InternalError,
    "INTERNAL": InternalError,
    "INVARIANT": InternalError,
    "SQLITE_CORRUPT": DatabaseError,
    "SQLITE_NOTADB": DatabaseError,
    "CORRUPTION": DatabaseError,
    "CHECKSUM_MISMATCH": DatabaseError,
    "SQLITE_MISUSE": ProgrammingError,
    "SQLITE_RANGE": ProgrammingError,
    "SQL_NO_STATEMENT": ProgrammingError,
    "SQL_MANY_STATEMENTS": ProgrammingError,
    "ARGS_INVALID": ProgrammingError,
    "ARGS_BOTH_POSITIONAL_AND_NAMED": ProgrammingError,
    "HRANA_PROTO_ERROR": ProgrammingError,
    "INVALID_REQUEST": ProgrammingError,
    "INVALID_DATABASE_NAME": ProgrammingError,
    "INVALID_BOOKMARK": ProgrammingError,
    "SQLITE_AUTH": NotSupportedError,
    "NOT_PANDO": InterfaceError,
}
_PAGES: Final = "ask for less at once, for example page by page: WHERE key > ? ORDER BY key LIMIT 1000"
_TOKEN: Final = "give token=, or PANDO_TOKEN in the environment; `pando token` makes one"
_PREFIX: Final = "SQLite error: "


def make_error(
    message: str, code: str, extended_code: str | None = None, *, retryable: bool = False, is_inside: bool = False
) -> Error:
    """Make the exception for an error of the server; `is_inside`: a transaction was open."""
    if code in _UNKNOWN_CODES:
        kind: type[Error] = OutcomeUnknown
    elif is_inside and code in LOSING_CODES:
        kind = TransactionLost
    else:
        kind = _KINDS.get(code, OperationalError)
    hint = _TOKEN if code.startswith("AUTH_") or code == "HTTP_401" else _PAGES if code == "RESPONSE_TOO_LARGE" else ""
    words = message.removeprefix(_PREFIX) or code
    return kind(f"{words}; {hint}" if hint else words, code=code, extended_code=extended_code, retryable=retryable)


def lost(reason: str, code: str | None = None) -> TransactionLost:
    """Make the error of a transaction that is gone."""
    return TransactionLost(
        f"the transaction is lost, nothing of it took effect: {reason}; call rollback() and begin it again", code=code
    )


def unknown(reason: str, code: str | None = None) -> OutcomeUnknown:
    """Make the error of a write whose answer never came."""
    return OutcomeUnknown(
        f"it is not known whether the write took effect: {reason}; it was not sent again, look before you repeat it",
        code=code,
    )
