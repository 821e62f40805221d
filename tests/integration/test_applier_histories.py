"""Many random histories: applied one by one and merged, with checkpoints, reopened files and snapshots in between."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest

from pando.store.files import RealFileSystem
from pando.store.pages import CheckpointMode, PageFile
from pando.store.replica import Replica, ReplicaState
from pando.store.snapshots import install_snapshot_steps, write_snapshot_steps
from pando.store.steps import run_steps

sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "store"))
from applier_world import SCHEMA, History, Primary
from test_replica import integrity, open_replica, pages_of

pytestmark = pytest.mark.full


def catch_up(replica: Replica, primary: Primary) -> None:
    while replica.position != primary.log.last:
        replica.apply_next(primary.log, primary.log.last.txid)


def jump_by_snapshot(replica: Replica, primary: Primary, folder: Path) -> None:
    """Install a snapshot that was made of another replica's file."""
    other, ltx, fs = folder / "o.db", folder / "s.ltx", RealFileSystem()
    made = open_replica(other, primary.log)
    catch_up(made, primary)
    made.close()
    file = PageFile(str(other))
    file.pin()
    run_steps(write_snapshot_steps(fs, file, ltx, primary.log.last, timestamp_ms=1))
    file.close()
    for path in folder.glob("o.db*"):
        path.unlink()
    run_steps(install_snapshot_steps(fs, replica, ltx, primary.log.last))


@pytest.mark.parametrize("seed", range(200))
def test_a_random_history(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    page_size = chance.choice((512, 1024, 4096, 16384, 65536))
    primary = Primary(tmp_path / "p.db", page_size=page_size, auto_vacuum=chance.randrange(3))
    primary.sql(SCHEMA)
    primary.capture(keep=False)
    history = History(primary, seed)
    replica = open_replica(tmp_path / "r.db", primary.log)
    for _ in range(80):
        history.step()
        primary.capture(keep=False)
        what = chance.random()
        if what < 0.5:
            catch_up(replica, primary)
            assert pages_of(tmp_path / "r.db") == primary.pages
        if what < 0.05:
            replica.checkpoint(chance.choice(list(CheckpointMode)))
        elif what < 0.08:
            replica.close()
            replica = open_replica(tmp_path / "r.db", primary.log)
        elif what > 0.97:
            jump_by_snapshot(replica, primary, tmp_path)
            assert pages_of(tmp_path / "r.db") == primary.pages
        assert replica.state is ReplicaState.READY
    catch_up(replica, primary)
    replica.close()
    assert pages_of(tmp_path / "r.db") == primary.pages
    assert integrity(tmp_path / "r.db") == [("ok",)]
    primary.close()
