import jwt
import pytest
from typer.testing import CliRunner

from pando.cli.access import find_secret, find_target, own_token, read_secret
from pando.cli.main import app
from pando.errors import InvalidSetting
from pando.node.secret import SQL_TOKEN_LABEL, derive_key, read_or_create_secret


@pytest.fixture(autouse=True)
def no_environment(monkeypatch):
    for name in ("PANDO_SECRET", "JWT_SECRET"):
        monkeypatch.delenv(name, raising=False)


def test_the_secret_of_a_node_is_found_in_its_directory(tmp_path):
    secret = read_or_create_secret(tmp_path)
    assert find_secret(tmp_path) == secret


def test_the_secret_of_a_cluster_is_found_in_its_first_node(tmp_path):
    (tmp_path / "node1").mkdir()
    secret = read_or_create_secret(tmp_path / "node1")
    assert find_secret(tmp_path) == secret


def test_a_node_of_pando_up_has_the_secret_of_the_cluster(tmp_path):
    secret = read_or_create_secret(tmp_path)
    (tmp_path / "node2").mkdir()
    assert find_secret(tmp_path / "node2") is None
    (tmp_path / ".pando" / "up.lock").touch()
    assert find_secret(tmp_path / "node2") == secret
    assert read_or_create_secret(tmp_path / "node2") != secret
    assert find_secret(tmp_path / "node2") == secret


def test_no_superuser_is_made_by_a_node_that_was_given_its_secret_and_is_not_now(tmp_path):
    (tmp_path / ".pando").mkdir()
    (tmp_path / ".pando" / "node.json").touch()
    done = CliRunner().invoke(app, ["superuser", "upsert", "a@example.com", "long-enough", "--dir", str(tmp_path)])
    assert (done.exit_code, "set PANDO_SECRET" in done.stderr) == (1, True)
    assert [path.name for path in (tmp_path / ".pando").iterdir()] == ["node.json"]


def test_the_environment_comes_first(tmp_path, monkeypatch):
    read_or_create_secret(tmp_path)
    monkeypatch.setenv("JWT_SECRET", "alias alias")
    assert find_secret(tmp_path) == "alias alias"
    monkeypatch.setenv("PANDO_SECRET", "ours ours")
    assert find_secret(tmp_path) == "ours ours"


def test_without_a_secret_there_is_no_token_and_the_way_out_is_named(tmp_path):
    assert own_token(tmp_path) is None
    with pytest.raises(InvalidSetting, match="--dir, or PANDO_SECRET"):
        read_secret(tmp_path)


def test_a_token_of_its_own_is_an_administrators_and_expires(tmp_path):
    secret = read_or_create_secret(tmp_path)
    claims = jwt.decode(own_token(tmp_path), derive_key(secret, SQL_TOKEN_LABEL), algorithms=["HS256"])
    assert claims["admin"] is True
    assert claims["exp"] > 0


def test_what_was_said_comes_first(tmp_path):
    read_or_create_secret(tmp_path)
    target = find_target("http://a:1", tmp_path, "given")
    assert (target.url, target.token) == ("http://a:1", "given")
    assert find_target("", tmp_path, "").url == "http://127.0.0.1:8090"
