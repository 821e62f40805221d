"""A directory of somebody else is never taken for an empty one."""

import pytest
from typer.testing import CliRunner

from pando.cli.access import find_target
from pando.cli.main import app
from pando.cli.places import require_cluster_place, require_node_place, tell_foreign_data
from pando.errors import InvalidSetting
from pando.log import EventLog
from pando.node.address_file import forget_address, note_address, noted_address


@pytest.mark.parametrize("content", [None, b"", b"SQLite format 3\x00" + b"x" * 100])
def test_a_node_may_be_where_a_database_or_none_is(tmp_path, content):
    if content is not None:
        (tmp_path / "data.db").write_bytes(content)
    require_node_place(tmp_path)
    require_node_place(tmp_path / "new")


def test_a_node_is_not_started_on_a_file_that_is_no_database(tmp_path):
    (tmp_path / "data.db").write_bytes(b"hello")
    done = CliRunner().invoke(app, ["serve", "--dir", str(tmp_path)])
    assert done.exit_code == 2
    assert "data.db is no SQLite database" in done.stderr


@pytest.mark.parametrize("name", ["data.db", "node.db"])
def test_a_node_is_not_started_where_no_directory_of_a_node_can_be(tmp_path, name):
    (tmp_path / "data.db").mkdir()
    (tmp_path / "node.db").touch()
    place = tmp_path if name == "data.db" else tmp_path / name
    with pytest.raises(InvalidSetting, match=name):
        require_node_place(place)


def test_one_node_and_a_cluster_do_not_share_a_directory(tmp_path):
    (tmp_path / "cluster" / ".pando").mkdir(parents=True)
    (tmp_path / "cluster" / ".pando" / "up.lock").touch()
    require_cluster_place(tmp_path / "cluster")
    with pytest.raises(InvalidSetting, match="belongs to `pando up`"):
        require_node_place(tmp_path / "cluster")
    (tmp_path / "node").mkdir()
    (tmp_path / "node" / "data.db").touch()
    with pytest.raises(InvalidSetting, match="the directory of one node"):
        require_cluster_place(tmp_path / "node")
    assert CliRunner().invoke(app, ["up", "--dir", str(tmp_path / "node")]).exit_code == 2


def test_databases_of_sqld_are_pointed_out_until_there_is_one_of_ours(tmp_path):
    lines = []
    log = EventLog("serve", write=lines.append)
    for name in ("default", "shop"):
        (tmp_path / "dbs" / name).mkdir(parents=True)
        (tmp_path / "dbs" / name / "data").touch()
    tell_foreign_data(tmp_path, log)
    assert [f"--name {name}`" in line for name, line in zip(("default", "shop"), lines, strict=True)] == [True, True]
    (tmp_path / "data.db").touch()
    tell_foreign_data(tmp_path, log)
    assert len(lines) == 2


def test_the_address_that_a_directory_names_is_asked(tmp_path):
    (tmp_path / ".pando").mkdir()
    assert find_target("", tmp_path, "t").url == "http://127.0.0.1:8090"
    note_address(tmp_path, ("0.0.0.0", 9000))
    assert find_target("", tmp_path, "t").url == "http://127.0.0.1:9000"
    assert find_target("http://other:1", tmp_path, "t").url == "http://other:1"
    note_address(tmp_path, ("::1", 9001))
    assert noted_address(tmp_path) == "http://[::1]:9001"
    forget_address(tmp_path)
    forget_address(tmp_path)
    assert noted_address(tmp_path) is None


@pytest.mark.parametrize("content", [b"", b"file:///etc", b"http://a b", b"\xff", b"http://x\nhttp://y"])
def test_an_address_that_is_none_is_not_asked(tmp_path, content):
    (tmp_path / ".pando").mkdir()
    (tmp_path / ".pando" / "address").write_bytes(content)
    assert noted_address(tmp_path) is None
