"""A client's local file is always a state that was committed: whichever node it asks, whatever lags or gets lost."""

import contextlib
import random

import pytest
from embedded_world import ClientV2, Refused, World, digest, run

from pando.errors import NotReady


@pytest.fixture
def world(tmp_path):
    made = World(tmp_path, 1)
    yield made
    made.close()


@pytest.mark.slow
def test_a_client_follows_over_many_generations(world):
    async def scenario():
        client = ClientV2(world)
        for _ in range(3):
            world.commit()
        assert await client.sync(lambda: world.primary)
        first = client.generation
        for _ in range(60):
            world.commit()
            assert await client.sync(lambda: world.primary)
            assert client.pages() == world.commits.pages
        assert client.generation > first + 2
        late = ClientV2(world)
        assert await late.sync(lambda: world.primary)
        assert late.pages() == world.commits.pages

    run(scenario())


def test_a_client_that_was_away_passes_every_generation(world):
    async def scenario():
        world.commit()
        client = ClientV2(world)
        assert await client.sync(lambda: world.primary)
        first = client.generation
        for _ in range(80):
            world.commit()
        assert await client.sync(lambda: world.primary)
        assert client.generation > first + 3
        assert client.pages() == world.commits.pages

    run(scenario())


def test_a_replica_answers_from_its_own_log_and_lets_the_primary_answer_the_rest(world):
    async def scenario():
        for _ in range(10):
            world.commit()
        client = ClientV2(world)
        assert await client.sync(lambda: world.primary)
        world.add_replica(keeps=3)
        world.add_replica()
        for _ in range(30):
            world.commit()
        for replica in world.nodes[1:]:
            assert await client.sync(lambda node=replica: node)
            assert client.pages() == world.commits.pages
            world.commit()

    run(scenario())


def test_a_late_replica_lets_the_primary_answer(world):
    """Clients read their own writes in their files: the sync after a write must bring it, however late the node is."""

    async def scenario():
        for _ in range(5):
            world.commit()
        client = ClientV2(world)
        world.add_replica()
        replica = world.nodes[-1]
        assert await client.sync(lambda: replica)
        world.catches_up = False
        for _ in range(3):
            world.commit()
            assert await client.sync(lambda: replica)
            assert client.pages() == world.commits.pages
        had, primary, world.primary = world.commits.pages, world.primary, None
        assert not await client.sync(lambda: replica), "it is to try again: nobody here knows what it has"
        assert client.pages() == had
        world.primary = primary
        world.commit()
        assert await client.sync(lambda: replica) and client.pages() == world.commits.pages

    run(scenario())


def test_without_a_primary_a_replica_serves_what_it_has(world):
    async def scenario():
        for _ in range(5):
            world.commit()
        client = ClientV2(world)
        assert await client.sync(lambda: world.primary)
        world.commit()
        world.add_replica()
        expected = world.commits.pages
        world.primary = None
        replica = world.nodes[-1]
        assert await client.sync(lambda: replica)
        assert client.pages() == expected
        assert (await replica.get("/info"))[0] == 200, "or the client would take another protocol"
        with pytest.raises(NotReady):
            await ClientV2(world).sync(lambda: replica)

    run(scenario())


def test_a_client_with_commits_that_were_lost_is_refused_and_others_go_on(world):
    async def scenario():
        for _ in range(5):
            world.commit()
        behind, ahead = ClientV2(world), ClientV2(world)
        assert await behind.sync(lambda: world.primary)
        world.add_replica()
        for _ in range(3):
            world.commit()
        assert await ahead.sync(lambda: world.primary)
        assert world.fail_over(world.nodes[1]) == 3
        world.commit()
        assert await behind.sync(lambda: world.primary)
        assert behind.pages() == world.commits.pages
        for _ in range(20):
            with pytest.raises(Refused, match="delete the local replica"):
                await ahead.sync(lambda: world.primary)
            world.commit()
        ahead.restart()
        assert await ahead.sync(lambda: world.primary)
        assert ahead.pages() == world.commits.pages

    run(scenario())


@pytest.mark.slow
def test_what_the_log_dropped_is_refused(world):
    async def scenario():
        world.commit()
        client = ClientV2(world)
        assert await client.sync(lambda: world.primary)
        for _ in range(120):
            world.commit()
        world.primary.file.drop_before(world.primary.file.last.txid - 20)
        with pytest.raises(Refused, match="delete the local replica"):
            await client.sync(lambda: world.primary)
        client.restart()
        assert await client.sync(lambda: world.primary)
        assert client.pages() == world.commits.pages

    run(scenario())


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_any_way_through_a_cluster_leaves_a_committed_state(tmp_path, seed):
    wander(tmp_path, seed, steps=60)


@pytest.mark.full
@pytest.mark.parametrize("seed", range(100, 125))
def test_any_long_way_through_a_cluster_leaves_a_committed_state(tmp_path, seed):
    wander(tmp_path, seed, steps=150)


def wander(tmp_path, seed, steps):
    chance = random.Random(seed)
    world = World(tmp_path, seed, generation_frames=chance.choice([5, 30, 100]))
    refused = losses = 0

    def pick():
        return chance.choice(world.nodes)

    async def scenario():
        nonlocal refused, losses
        clients = [ClientV2(world, batch=chance.choice([1, 3, 128])) for _ in range(3)]
        world.commit()
        world.add_replica()
        for _ in range(steps):
            step = chance.random()
            world.catches_up = chance.random() < 0.7
            if step < 0.45:
                world.commit()
            elif step < 0.6:
                replica = pick()
                if replica is not world.primary:
                    world.follow(replica, chance.randint(1, world.commits.position.txid))
            elif step < 0.64 and len(world.nodes) < 4:
                world.add_replica(chance.choice([None, 1, 5]))
            elif step < 0.68:
                candidates = [node for node in world.nodes if node is not world.primary and node.entries]
                if candidates:
                    losses += world.fail_over(chance.choice(candidates))
            else:
                client = chance.choice(clients)
                try:
                    with contextlib.suppress(NotReady):
                        await client.sync(pick, steps=chance.choice([1, 5, 1000]))
                except Refused:
                    refused += 1
                    client.restart()
        world.catches_up = True
        for client in clients:
            try:
                assert await client.sync(lambda: world.primary)
            except Refused:
                client.restart()
                assert await client.sync(lambda: world.primary)
            assert digest(client.pages()) == digest(world.commits.pages)

    run(scenario())
    world.close()


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/info/", 404),
        ("/info/1", 404),
        ("/export", 404),
        ("/export/x", 404),
        ("/export/-1", 404),
        ("/sync/1/1", 404),
        ("/sync/1/1/2/baton", 404),
        ("/sync/1/0/2", 422),
        ("/sync/1/3/3", 422),
        ("/sync/1/1/99999999999", 404),
        ("/sync/9999999999/1/129", 410),
        ("/export/77", 410),
        ("/dev/data/info", 200),
        ("/dev/data/sync/77/1/129", 410),
        ("/dev/no%20name/info", 400),
        ("/dev/_pando/info", 404),
        ("/dev/data/other", 404),
    ],
)
def test_what_is_asked_wrongly_is_never_the_end_of_a_generation(world, path, status):
    async def scenario():
        world.commit()
        found, body = await world.primary.get(path)
        assert found == status
        assert status in {200, 400} or b'"message"' in body
        assert b'"generation"' not in body

    run(scenario())
