"""Pulls against a real database and its log: every answer leads to exactly the pages of the state that it names."""

import random
from types import SimpleNamespace

import apsw
import pytest
from pull_client import decode_answer, encode_request, run_bitmap
from store_kit import image_of, opened_primary, run, sql

from pando.errors import ChecksumMismatch, InvalidRequest, RevisionGone
from pando.sql.pull_images import IDLE_S, ImageFile, find_images, sweep_images
from pando.sql.pull_messages import decode_pull
from pando.sql.pull_reading import ImageNeeded, PullReading, Source
from pando.sql.pull_revisions import format_revision, parse_revision


class Puller:
    """Asks as the route does, on one thread."""

    def __init__(self, node, name="data"):
        layout = node.layout
        self.folder = layout.temporary
        self.reading = PullReading(layout.temporary, node.positions, node.clock)
        self.source = Source(name, layout.database(name), layout.log(name), 0)
        self.made = 0

    def ask(self, **fields):
        request = decode_pull(encode_request(**fields))
        try:
            pull = self.reading.answer(self.source, request)
        except ImageNeeded:
            self.reading.make_image(self.source)
            self.made += 1
            pull = self.reading.answer(self.source, request, takes_old_image=True)
        body = b"".join(pull.parts)
        pull.close()
        return decode_answer(body)

    def close(self):
        self.reading.close()


class History:
    """What the database was at each position."""

    def __init__(self, db, folder):
        self.db = db
        self.folder = folder
        self.states = {}
        self.order = []

    def note(self):
        position = self.db.database.position
        image = image_of(self.db.database, self.folder)
        assert image.checksum == position.checksum
        revision = format_revision(position)
        self.states[revision] = [image.pages[number] for number in sorted(image.pages)]
        self.order.append(revision)
        return revision


STEPS = [
    "CREATE TABLE t (id INTEGER PRIMARY KEY, v)",
    "INSERT INTO t (v) SELECT randomblob(900) FROM generate_series(1, 200)",
    "UPDATE t SET v = randomblob(900) WHERE id % 7 = 3",
    "CREATE INDEX i ON t (v)",
    "DELETE FROM t WHERE id > 40",
    "VACUUM",
    "INSERT INTO t (v) SELECT randomblob(2000) FROM generate_series(1, 100)",
    "UPDATE t SET v = 1 WHERE id = 5",
    "DROP TABLE t",
    "VACUUM",
]


async def play(history, steps):
    for step in steps:
        await history.db.ask(sql(step))
        history.note()


def check_incremental(history, found, since):
    """Put the pages over what the client had: then it has the state that the answer names."""
    pages = dict(enumerate(history.states[since]))
    pages.update(found.pages)
    expected = history.states[found.revision]
    assert found.db_pages == len(expected) or not found.pages
    if found.pages:
        pages = {number: page for number, page in pages.items() if number < found.db_pages}
    assert [pages[number] for number in sorted(pages)] == expected


@pytest.mark.slow
def test_every_revision_leads_to_every_later_one(node, tmp_path):
    async def scenario():
        async with opened_primary(node, feed=True) as db:
            puller, history = Puller(node), History(db, tmp_path)
            await play(history, STEPS)
            for at, since in enumerate(history.order):
                for target in history.order[at:]:
                    found = puller.ask(client_revision=since, server_revision=target)
                    assert found.revision == target
                    check_incremental(history, found, since)
            last = history.order[-1]
            assert puller.ask(client_revision=last).pages == {}
            assert puller.made == 0, "what changed is read from the log alone"
            puller.close()

    run(scenario())


@pytest.mark.slow
def test_all_pages_of_the_newest_state_and_of_earlier_ones(node, tmp_path):
    async def scenario():
        async with opened_primary(node, feed=True) as db:
            puller, history = Puller(node), History(db, tmp_path)
            for step in STEPS:
                await play(history, [step])
                found = puller.ask()
                assert found.revision == history.order[-1]
                assert found.as_list() == history.states[found.revision]
            assert puller.made == 1, "one image and the log give all of them"
            for revision in history.order:
                assert puller.ask(server_revision=revision).as_list() == history.states[revision]
            puller.close()

    run(scenario())


@pytest.mark.slow
def test_pages_of_a_state_before_the_only_image(node, tmp_path):
    async def scenario():
        async with opened_primary(node, feed=True) as db:
            puller, history = Puller(node), History(db, tmp_path)
            await play(history, STEPS[:5])
            answered = refused = 0
            for revision in history.order:
                pages = history.states[revision]
                for number in range(0, len(pages), 3):
                    try:
                        found = puller.ask(server_revision=revision, selector=run_bitmap(number, number + 3))
                    except RevisionGone:
                        refused += 1
                        continue
                    answered += 1
                    assert found.pages == dict(list(enumerate(pages))[number : number + 3])
                    assert found.db_pages == len(pages)
            assert answered > 50
            assert [image.position.txid for image in find_images(puller.folder, "data")] == [db.database.position.txid]
            puller.close()

    run(scenario())


@pytest.mark.slow
def test_chunks_of_one_state_while_the_database_goes_on(node, tmp_path):
    async def scenario():
        async with opened_primary(node, feed=True) as db:
            puller, history = Puller(node), History(db, tmp_path)
            await play(history, STEPS[:3])
            first = puller.ask(selector=run_bitmap(0, 16))
            pages = dict(first.pages)
            assert sorted(pages) == list(range(16))
            chance = random.Random(5)
            for start in range(16, first.db_pages, 16):
                await db.ask(sql(chance.choice(STEPS[1:3])))
                chunk = puller.ask(server_revision=first.revision, selector=run_bitmap(start, start + 16))
                assert chunk.revision == first.revision
                pages.update(chunk.pages)
            assert [pages[number] for number in sorted(pages)] == history.states[first.revision]
            puller.close()

    run(scenario())


def test_what_the_log_does_not_know_gets_all_pages_anew(node, tmp_path):
    async def scenario():
        async with opened_primary(node, feed=True) as db:
            puller, history = Puller(node), History(db, tmp_path)
            await play(history, STEPS[:3])
            other_history = history.order[1][:-4] + "beef"
            found = puller.ask(client_revision=other_history)
            assert found.as_list() == history.states[history.order[-1]]
            with pytest.raises(RevisionGone, match="pull again"):
                puller.ask(server_revision=other_history)
            with pytest.raises(InvalidRequest, match="another server"):
                puller.ask(client_revision="1234")
            puller.close()

    run(scenario())


@pytest.mark.slow
def test_images_are_few_and_go_when_they_are_idle(node, tmp_path):
    async def scenario():
        async with opened_primary(node, feed=True) as db:
            puller, history = Puller(node), History(db, tmp_path)
            for step in STEPS[:4]:
                await play(history, [step])
                puller.reading.make_image(puller.source)
            images = find_images(puller.folder, "data")
            assert [format_revision(image.position) for image in images] == history.order[2:4]
            held = ImageFile(images[0])
            now = node.clock.wall_ms() / 1000
            assert sweep_images(puller.folder, now + IDLE_S / 2) == 2
            assert sweep_images(puller.folder, now + IDLE_S + 60) == 0
            assert held.read(0) == history.states[history.order[2]][0], "who reads one goes on"
            held.close()
            assert puller.ask().as_list() == history.states[history.order[-1]]
            puller.close()

    run(scenario())


def test_other_page_sizes_are_refused_with_the_reason(node):
    path = node.layout.database("data")
    made = apsw.Connection(str(path))
    made.execute("PRAGMA page_size = 1024; CREATE TABLE t (v)")
    made.close()

    async def scenario():
        async with opened_primary(node) as db:
            puller = Puller(node)
            before = format_revision(db.database.position)
            with pytest.raises(InvalidRequest, match="pages of 1024 bytes"):
                puller.ask()
            await db.ask(sql("INSERT INTO t VALUES (1)"))
            with pytest.raises(InvalidRequest, match="pages of 1024 bytes"):
                puller.ask(client_revision=before)
            assert list(puller.folder.iterdir()) == []
            puller.close()

    run(scenario())


def test_a_new_epoch_without_a_commit_is_the_same_state(node, tmp_path):
    async def scenario():
        async with opened_primary(node, feed=True) as db:
            puller, history = Puller(node), History(db, tmp_path)
            await play(history, STEPS[:2])
            at = db.database.position
            node.positions.publish_visible(0, at.epoch + 1, at.txid, at.checksum)
            assert puller.ask(client_revision=history.order[-1]).pages == {}
            found = puller.ask()
            assert found.revision == history.order[-1]
            assert found.as_list() == history.states[found.revision]
            puller.close()

    run(scenario())


def test_an_image_of_another_state_than_its_name_is_never_used(node, tmp_path):
    """What the log says does not lead to what was copied: the copy is refused and leaves nothing."""

    async def scenario():
        async with opened_primary(node, feed=True) as db:
            puller, history = Puller(node), History(db, tmp_path)
            await play(history, STEPS[:3])
            late = SimpleNamespace(visible=lambda _: history_of(history.order[1]), position=node.positions.position)
            late.about = late.visible
            puller.reading = PullReading(puller.folder, late, node.clock)
            with pytest.raises(ChecksumMismatch, match="try again"):
                puller.ask()
            assert list(puller.folder.iterdir()) == []
            puller.close()

    run(scenario())


def history_of(revision):
    position = parse_revision(revision)
    return position.epoch, position.txid
