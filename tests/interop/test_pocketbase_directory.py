"""A data directory goes from PocketBase to Pando and back, or the other way round: nothing is lost, everything works.

What is compared is what the APIs answer (`directory_world`); log-ins with old passwords, old tokens and files are used
with both programs.
"""

import contextlib

import pytest
from directory_world import World, files, make, picture
from pocketbase_program import need_pocketbase, served_pando, served_pocketbase

pytestmark = [pytest.mark.interop, pytest.mark.slow, pytest.mark.timeout(600)]

SERVED = {"pocketbase": served_pocketbase, "pando": served_pando}
OTHER = {"pocketbase": "pando", "pando": "pocketbase"}


@contextlib.contextmanager
def opened(name, directory, tokens=None):
    """Let a program have the directory."""
    with SERVED[name](directory) as served:
        world = World(served, tokens)
        try:
            yield world
        finally:
            world.close()


@pytest.mark.parametrize("first", SERVED)
def test_a_directory_goes_there_and_back(tmp_path, first):
    need_pocketbase()
    directory = tmp_path / "pb_data"
    with opened(first, directory) as world:
        make(world)
        before, files_before, tokens = picture(world), files(world, "file"), world.side.kept
    with opened(OTHER[first], directory, tokens) as world:
        assert picture(world) == before
        assert files(world, "file") == files_before
        world.sign_in_everybody("new_")
        after, files_after, tokens = picture(world), files(world, "new_file"), world.side.kept
    with opened(first, directory, tokens) as world:
        assert picture(world) == after
        assert files(world, "new_file") == files_after
        world.sign_in_everybody("again_")
