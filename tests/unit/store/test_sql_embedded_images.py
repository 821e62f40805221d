"""Frames and files for local copies, from a real database and its log."""

import sqlite3
import struct

import pytest
from store_kit import opened_primary, run, sql

from pando.sql.embedded_generations import Generation, Standing
from pando.sql.embedded_images import ExportImages, bytes_of_image, frames_of_image
from pando.sql.embedded_log import FrameLog
from pando.sql.pull_reading import PullReading, Source
from pando.types import Checksum


@pytest.mark.slow
def test_files_and_frames_are_what_was_committed(node, tmp_path):
    async def scenario():
        async with opened_primary(node, feed=True) as db:
            layout = node.layout
            log = FrameLog(layout.log, node.fs)
            reading = PullReading(layout.temporary, node.positions, node.clock)
            images = ExportImages(layout.temporary, reading, log)
            source = Source("data", layout.database("data"), layout.log("data"), 0)
            await db.ask(sql("CREATE TABLE t (id INTEGER PRIMARY KEY, v)"))
            first = images.newest(source, db.database.position.txid)
            assert first.position.checksum == db.database.position.checksum
            await db.ask(sql("INSERT INTO t (v) SELECT randomblob(900) FROM generate_series(1, 200)"))
            await db.ask(sql("INSERT INTO t (v) SELECT randomblob(3000) FROM generate_series(1, 600)"))
            await db.ask(sql("DELETE FROM t WHERE id > 20"))
            await db.ask(sql("VACUUM"))
            here = db.database.position
            assert images.newest(source, here.txid) == first, "the log leads on from it"
            exact = images.exact("data", here.txid, here.checksum)
            assert exact.position.checksum == here.checksum
            assert images.exact("data", here.txid, Checksum(here.checksum ^ 1)) is None
            exported = b"".join(bytes_of_image(images.open(exact)))
            check_same_rows(tmp_path, exported)
            generation = Generation(7, first.position.epoch, first.position.txid, first.position.checksum, True)
            file = b"".join(bytes_of_image(images.open(first)))
            assert applied(log, generation, file, here.txid) == exported
            pages = [frame for group in frames_of_image(images.open(exact), 9, 0) for frame in group]
            assert {struct.unpack_from("<Q", frame)[0] for frame in pages} == {9}
            assert [struct.unpack_from("<QQII", frame)[3] for frame in pages[:-1]] == [0] * (len(pages) - 1)
            assert b"".join(frame[24:] for frame in reversed(pages)) == exported
            assert log.leads_on("data", here.txid, here.checksum)
            assert not log.leads_on("data", here.txid, Checksum(here.checksum ^ 1))
            reading.close()
            log.close()

    run(scenario())


def applied(log, generation, file, up_to):
    """Put all frames of a generation over a file, a few at a time."""
    pages = [file[at : at + 4096] for at in range(0, len(file), 4096)]
    following = 1
    while True:
        look = log.look("data", generation, range(following, following + 50), up_to)
        if look.standing is not Standing.FRAMES:
            assert look.standing is Standing.CAUGHT_UP
            return b"".join(pages)
        for at in range(0, len(look.frames), 4120):
            number, size = struct.unpack_from(">II", look.frames, at)
            pages += [b""] * (number - len(pages))
            pages[number - 1] = look.frames[at + 24 : at + 4120]
            if size:
                del pages[size:]
            following += 1


def check_same_rows(tmp_path, exported):
    path = tmp_path / "exported.db"
    path.write_bytes(exported)
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("SELECT count(*) FROM t").fetchone() == (20,)
    connection.close()
