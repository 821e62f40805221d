"""The files of one process: which storage the application's settings name, uploads, thumbs, and clearing away.

Local files are in a directory beside the database; if the settings name a bucket, files are there instead. On a
replica a local file that is not there is fetched from the primary and kept.
Not here: which files a request may see (`pando.api.records_files`), when files are stored and removed (`filing`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pando.errors import PandoError
from pando.log import EventLog
from pando.records.app_settings import S3
from pando.records.files.filing import Filing
from pando.records.files.local_storage import LocalStorage
from pando.records.files.names import thumb_key, thumbs_prefix
from pando.records.files.proofs import FileProofs
from pando.records.files.s3_storage import S3Settings, open_s3
from pando.records.files.sizes import ThumbSize
from pando.records.files.spool import NO_UPLOADS, Spools, Upload, Uploads
from pando.records.files.storage import FileMissing, Storage, Stored
from pando.records.files.thumbs import ThumbMaker

THUMB_THREADS: Final = 2
"""Of each web process, of which there is one per core."""
CLEARED_AT_ONCE: Final = 32
"""Files that a request itself clears away; more are cleared behind its back."""
CLEARERS_MAX: Final = 16
"""Such clearings under way; past it the request waits for its own."""

Fetch = Callable[[Storage, str], Awaitable[None]]
"""Brings a file of the primary to a storage. Raises FileMissing if the primary has none, PandoError."""


@dataclass(frozen=True, slots=True)
class Place:
    """A storage with its thumbs."""

    storage: Storage
    thumbs: ThumbMaker
    is_local: bool


class Cabinet:
    """Keeps files. `directory` is where local ones are, `temporary` where uploads wait, `fetch` for replicas."""

    def __init__(
        self,
        directory: Path,
        temporary: Path,
        log: EventLog,
        *,
        fetch: Fetch | None = None,
        proofs: FileProofs | None = None,
    ) -> None:
        """`proofs`: how other nodes show that they may have a file of this one."""
        self.proofs = proofs
        self.spools = Spools(temporary)
        self._log = log
        self._fetch = fetch
        self._local_storage = local = LocalStorage(directory)
        self._local = Place(local, ThumbMaker(local, threads=THUMB_THREADS), is_local=True)
        self._bucket: tuple[S3, Place] | None = None
        self._former: list[Place] = []
        self._clearing: set[asyncio.Task[None]] = set()

    @property
    def local(self) -> LocalStorage:
        """The files on this machine, wherever new ones go."""
        return self._local_storage

    def place(self, settings: S3) -> Place:
        """Give where files are by these settings."""
        if not settings.enabled:
            return self._local
        if self._bucket is not None and self._bucket[0] == settings:
            return self._bucket[1]
        storage = open_s3(
            S3Settings(
                bucket=settings.bucket,
                region=settings.region,
                endpoint=settings.endpoint,
                access_key=settings.access_key,
                secret=settings.secret,
                is_path_style=settings.force_path_style,
            )
        )
        if self._bucket is not None:
            self._former.append(self._bucket[1])  # requests may be using it; settings change seldom
        place = Place(storage, ThumbMaker(storage, threads=THUMB_THREADS), is_local=False)
        self._bucket = settings, place
        return place

    def filing(self, settings: S3, uploads: Uploads = NO_UPLOADS, *, is_batch: bool = False) -> Filing:
        """Begin the files of one request that writes."""
        return Filing(_Shelf(self, self.place(settings).storage), uploads, is_batch=is_batch)

    async def find(self, place: Place, key: str) -> Stored:
        """Say what is known of a file, fetching it first if need be. Raises FileMissing, PandoError."""
        try:
            return await place.storage.head(key)
        except FileMissing:
            if self._fetch is None or not place.is_local:
                raise
        await self._fetch(place.storage, key)
        return await place.storage.head(key)

    async def find_thumb(self, place: Place, original: Stored, size: ThumbSize) -> Stored | None:
        """Give a thumb of a file; None if the original is to be sent."""
        collection_id, record_id, name = original.key.split("/")
        return await place.thumbs.find_or_make(original, thumb_key(collection_id, record_id, name, str(size)), size)

    async def clear(self, storage: Storage, keys: Iterable[str]) -> None:
        """Remove files with their thumbs; what cannot be removed is logged and stays. Never raises but cancellation."""
        listed = list(keys)
        if len(listed) <= CLEARED_AT_ONCE or len(self._clearing) >= CLEARERS_MAX:
            await self._clear(storage, listed)
            return
        task = asyncio.create_task(self._clear(storage, listed))
        self._clearing.add(task)
        task.add_done_callback(self._clearing.discard)

    async def _clear(self, storage: Storage, keys: list[str]) -> None:
        for key in keys:
            try:
                await storage.delete_prefix(thumbs_prefix(*key.split("/")))
                await storage.delete(key)
            except PandoError as error:
                self._log.emit("files.not_removed", key=key, error=error.message)

    async def clear_collection(self, settings: S3, collection_id: str) -> None:
        """Remove all files of a collection that is gone. Never raises but cancellation."""
        try:
            await self.place(settings).storage.delete_prefix(collection_id)
        except PandoError as error:
            self._log.emit("files.not_removed", key=collection_id, error=error.message)

    async def settle(self) -> None:
        """Return when nothing is being cleared away any more."""
        await asyncio.gather(*self._clearing, return_exceptions=True)

    async def close(self) -> None:
        """Finish what is being cleared away, and give back what is held."""
        await self.settle()
        places = [self._local, *self._former, *([self._bucket[1]] if self._bucket else [])]
        for place in places:
            await place.thumbs.close()
            await place.storage.close()
        self.spools.close()


class _Shelf:
    """A storage for one request's filing."""

    def __init__(self, cabinet: Cabinet, storage: Storage) -> None:
        self._cabinet = cabinet
        self._storage = storage

    async def put(self, key: str, upload: Upload) -> None:
        await self._storage.put(
            key, upload.content(), content_type=upload.file.mime_type, size_max=max(upload.file.size, 1)
        )

    async def clear(self, keys: Iterable[str]) -> None:
        await self._cabinet.clear(self._storage, keys)
