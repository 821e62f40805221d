"""The files of one write: stored before its commit, removed again if it fails; what it replaces goes after the commit.

A crash in between leaves at most a file that no record names, never a record without its file. That holds for answers
that are lost too: a file is taken back only where it is sure that nothing was committed. Stored names are random and
never used again, so removing by name can hit nothing that another request has stored meanwhile.
Not here: where files are kept (`pando.records.files.cabinet`), which names a record has (`pando.records.writing`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from pando.errors import CallerError, PandoError
from pando.records.fields.values import FieldValue, NewFile
from pando.records.files.names import file_key
from pando.records.files.spool import NO_UPLOADS, Upload, Uploads
from pando.records.model import Collection, FileField
from pando.records.record import Record


class Shelf(Protocol):
    """Where a filing puts files: a storage, and how removed ones are cleared away."""

    async def put(self, key: str, upload: Upload) -> None:
        """Store. Raises StorageError, Overloaded."""
        ...

    async def clear(self, keys: Iterable[str]) -> None:
        """Remove files with their thumbs. What cannot be removed stays: nothing names it any more. Never raises."""
        ...


class Filing:
    """The files of one request. Use it as a context around all that the request writes."""

    def __init__(self, shelf: Shelf, uploads: Uploads = NO_UPLOADS, *, is_batch: bool = False) -> None:
        """`is_batch`: several records are written before one commit."""
        self._shelf = shelf
        self._is_batch = is_batch
        self._uploads = uploads
        self._stored: dict[str, None] = {}
        self._dropped: dict[str, None] = {}
        self._is_committing = False

    async def __aenter__(self) -> Filing:
        """Begin."""
        return self

    async def __aexit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        """Clear away what is not needed any more."""
        if error is None:
            await self._shelf.clear(self._dropped)
        elif not self._is_committing or _is_surely_undone(error):
            await self._shelf.clear(self._stored)

    async def store(self, collection: Collection, record_id: str, values: Iterable[FieldValue]) -> None:
        """Store the new files among a record's values; those that are there already are not stored again."""
        for value in values:
            for each in value if isinstance(value, list) else (value,):
                if isinstance(each, NewFile):
                    key = file_key(collection.id, record_id, each.name)
                    if key not in self._stored:
                        self._stored[key] = None
                        await self._shelf.put(key, self._uploads[each.name])

    def writes(self) -> None:
        """Take note that a record is written next; that is a commit unless there is a batch around it."""
        if not self._is_batch:
            self.commits()

    def commits(self) -> None:
        """Take note that the commit comes next: from now on a lost answer does not mean that nothing was written."""
        self._is_committing = True

    def dropped(self, record: Record, kept: Record | None = None) -> None:
        """Take note that the files of a record are not named any more, but those that it has kept."""
        for key in keys_of(record):
            self._dropped[key] = None
        for key in keys_of(kept) if kept is not None else ():
            self._dropped.pop(key, None)


def file_fields(collection: Collection) -> tuple[FileField, ...]:
    """Give the fields that hold files."""
    found: tuple[FileField, ...] | None = collection.__dict__.get("_file_fields")
    if found is None:
        found = tuple([each for each in collection.fields if isinstance(each, FileField)])
        collection.__dict__["_file_fields"] = found
    return found


def keys_of(record: Record) -> list[str]:
    """Give the keys of a stored record's files."""
    collection = record.collection
    return [
        file_key(collection.id, record.id, name) for each in file_fields(collection) for name in record.texts(each.name)
    ]


def _is_surely_undone(error: BaseException) -> bool:
    """Tell whether an error that came with a commit says that nothing was written."""
    return isinstance(error, CallerError) or (isinstance(error, PandoError) and error.retryable)
