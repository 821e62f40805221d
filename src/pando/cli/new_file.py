"""A file that a command makes: it must not be there before, and a part of it is never left behind."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from pando.errors import InvalidRequest, StorageError


@contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """Open a new file to write. Raises InvalidRequest if it exists, StorageError if writing fails."""
    try:
        made = path.open("xb")
    except FileExistsError as error:
        raise InvalidRequest(f"{path} exists: give another name or remove it") from error
    except OSError as error:
        raise InvalidRequest(f"{path} cannot be written: {error.strerror or error}") from error
    try:
        with made:
            yield made
    except OSError as error:
        path.unlink(missing_ok=True)
        raise StorageError(f"{path} cannot be written: {error.strerror or error}") from error
    except BaseException:
        path.unlink(missing_ok=True)
        raise
