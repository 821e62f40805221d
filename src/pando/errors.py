"""The one error tree, by who must act.

    PandoError
      CallerError        the request is wrong: change it
      NotPrimary         ask the primary instead
      RetryLater         nothing was done, or it is not known whether it was: see `retryable`
      StorageError       disk full, I/O error: the operator must act
      CorruptionError    bytes that cannot be right: evidence is kept, the database stops or heals
      InternalError      a bug of ours

Each class has a stable `code`, an HTTP `status` and says whether the same request may be sent again (`retryable`).
Messages state what happened, with which value, and what to do. This module imports nothing.
"""

from __future__ import annotations


class PandoError(Exception):
    """Base of all errors that Pando raises on purpose."""

    code = "PANDO_ERROR"
    status = 500
    retryable = False

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        if code is not None:
            self.code = code


class CallerError(PandoError):
    """The request cannot be done as it is."""

    code = "INVALID_REQUEST"
    status = 400


class InvalidRequest(CallerError):
    """The request is malformed."""


class InvalidBookmark(CallerError):
    """The bookmark is not one of ours."""

    code = "INVALID_BOOKMARK"


class InvalidDatabaseName(CallerError):
    """The name cannot be a database's."""

    code = "INVALID_DATABASE_NAME"


class InvalidSetting(CallerError):
    """A setting has a value that cannot be used."""

    code = "INVALID_SETTING"


class SqlError(CallerError):
    """SQLite or the SQL layer refused a statement; `code` is SQLite's primary code name or a Hrana code."""

    code = "SQLITE_ERROR"

    def __init__(self, message: str, *, code: str | None = None, extended_code: str | None = None) -> None:
        super().__init__(message, code=code)
        self.extended_code = extended_code


class Blocked(SqlError):
    """An administrator has blocked reads or writes of the database."""

    code = "BLOCKED"
    status = 403


class Unauthorized(CallerError):
    """No token, or one that does not hold."""

    code = "AUTH_INVALID"
    status = 401


class Forbidden(CallerError):
    """The token does not allow this."""

    code = "FORBIDDEN"
    status = 403


class UnknownDatabase(CallerError):
    """There is no database of that name."""

    code = "UNKNOWN_DATABASE"
    status = 404


class NotFound(CallerError):
    """There is nothing at this address."""

    code = "NOT_FOUND"
    status = 404


class LocalCopyRefused(CallerError):
    """A client's local file cannot be brought up to date from this cluster."""

    code = "LOCAL_COPY_REFUSED"
    status = 410


class DatabaseExists(CallerError):
    """A database of that name is there already."""

    code = "DATABASE_EXISTS"
    status = 409


class RevisionGone(CallerError):
    """A client asks for pages of a state that is not kept any more; it pulls again, or begins with a new file."""

    code = "REVISION_GONE"
    status = 410


class StreamExpired(CallerError):
    """The baton belongs to a stream that is no more."""

    code = "STREAM_EXPIRED"


class RequestTooLarge(CallerError):
    """The body is over the limit."""

    code = "REQUEST_TOO_LARGE"
    status = 413


class ResponseTooLarge(CallerError):
    """The answer would be over the limit."""

    code = "RESPONSE_TOO_LARGE"
    status = 413


class NotPrimary(PandoError):
    """This node does not take writes."""

    code = "NOT_PRIMARY"
    status = 503
    retryable = True


class RetryLater(PandoError):
    """Try again later."""

    code = "RETRY_LATER"
    status = 503
    retryable = True


class PrimaryUnavailable(RetryLater):
    """The primary cannot be reached; nothing was written."""

    code = "PRIMARY_UNAVAILABLE"


class OutcomeUnknown(RetryLater):
    """The connection broke after the write was sent: it may or may not have taken effect."""

    code = "OUTCOME_UNKNOWN"
    retryable = False


class Overloaded(RetryLater):
    """A queue is full."""

    code = "OVERLOADED"


class NotReady(RetryLater):
    """The node or database is still starting, or healing."""

    code = "NOT_READY"


class StatementTimeout(RetryLater):
    """A statement ran longer than the limit and was stopped."""

    code = "STATEMENT_TIMEOUT"
    status = 408
    retryable = False


class TransactionTimeout(RetryLater):
    """A transaction was open longer than the limit and was rolled back."""

    code = "TRANSACTION_TIMEOUT"
    status = 408
    retryable = False


class TransactionBusy(RetryLater):
    """Another transaction held the writer for too long."""

    code = "TRANSACTION_BUSY"


class BookmarkTimeout(RetryLater):
    """The node did not reach the bookmark in time, nor could it forward."""

    code = "BOOKMARK_TIMEOUT"
    status = 504


class QuorumTimeout(RetryLater):
    """Committed on the primary, but a majority did not confirm in time."""

    code = "QUORUM_TIMEOUT"
    status = 504
    retryable = False


class StorageError(PandoError):
    """The disk refused."""

    code = "STORAGE_ERROR"


class StorageFull(StorageError):
    """No space left."""

    code = "STORAGE_FULL"
    status = 507


class CorruptionError(PandoError):
    """Bytes that cannot be right."""

    code = "CORRUPTION"


class LtxError(CorruptionError):
    """An LTX file breaks a rule of the format."""

    code = "LTX_INVALID"


class LogCorruption(CorruptionError):
    """A log segment holds a broken entry before its end."""

    code = "LOG_CORRUPT"


class ChecksumMismatch(CorruptionError):
    """The rolling checksum after a commit is not the primary's."""

    code = "CHECKSUM_MISMATCH"


class InternalError(PandoError):
    """A bug of ours."""

    code = "INTERNAL"


class InvariantError(InternalError):
    """Something that must always hold did not; the database concerned stops taking writes."""

    code = "INVARIANT"

    def __init__(self, message: str, **facts: object) -> None:
        shown = ", ".join(f"{name}={value!r}" for name, value in facts.items())
        super().__init__(f"{message} ({shown})" if shown else message)
        self.facts = facts


def invariant(condition: bool, message: str, /, **facts: object) -> None:
    """Raise InvariantError unless the condition holds; unlike assert it stays on under `python -O`."""
    if not condition:
        raise InvariantError(message, **facts)
