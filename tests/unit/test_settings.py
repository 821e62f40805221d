from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pando import setting_kinds as kinds
from pando.errors import InvalidSetting
from pando.settings import Settings, environment_names, load_settings, rows
from pando.types import Durability, Role


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_the_defaults_are_a_primary_on_loopback():
    settings = load_settings()
    assert settings == Settings()
    assert settings.is_primary
    assert settings.own_url == "http://127.0.0.1:8090"


def test_flags_beat_environment_beats_file_beats_default(tmp_path):
    file = tmp_path / "c.toml"
    file.write_text('http = "127.0.0.1:1"\nweb = 3\nsql_auth = "open"\nomit_databases = ["a", "b"]\n')
    settings = load_settings(
        flags={"http": "127.0.0.1:3", "web": None},
        environ={"PANDO_HTTP": "127.0.0.1:2", "PANDO_WEB": "2"},
        config=file,
    )
    assert settings.http == ("127.0.0.1", 3)
    assert settings.web == 2
    assert settings.sql_auth == "open"
    assert settings.omit_databases == ("a", "b")
    assert settings.statement_time_s == 30.0


def test_the_file_of_the_directory_is_found(tmp_path):
    (tmp_path / "node").mkdir()
    (tmp_path / "node" / "pando.toml").write_text("web = 5")
    assert load_settings(environ={"DATA_DIR": str(tmp_path / "node")}).web == 5
    assert load_settings(flags={"dir": tmp_path / "node"}).web == 5


def test_a_vski_replica_starts_from_its_own_environment():
    settings = load_settings(
        environ={
            "REPLICA_MODE": "replica",
            "MASTER_URL": "http://master:3000/",
            "JWT_SECRET": "s3cret",
            "DATA_DIR": "/data",
            "REPLICA_ID": "eu-1",
            "PUBLIC_URL": "https://eu.example.org",
            "REPLICA_OMIT_DBS": "logs, cache",
            "SYNC_INTERVAL": "60",
        }
    )
    assert settings.role is Role.REPLICA
    assert settings.primary == "http://master:3000"
    assert settings.secret == "s3cret"
    assert settings.dir == Path("/data")
    assert (settings.node, settings.own_url) == ("eu-1", "https://eu.example.org")
    assert settings.omit_databases == ("logs", "cache")
    assert settings.sync_interval == 60.0


def test_an_sqld_compose_file_switches_by_image_name():
    settings = load_settings(
        environ={
            "SQLD_NODE": "replica",
            "SQLD_PRIMARY_URL": "libsql://primary:5001",
            "SQLD_HTTP_LISTEN_ADDR": "0.0.0.0:8080",
            "SQLD_DB_PATH": "/var/lib/sqld",
        }
    )
    assert settings.role is Role.REPLICA
    assert settings.primary == "http://primary:5001"
    assert settings.http == ("0.0.0.0", 8080)
    assert settings.own_url == "http://127.0.0.1:8080"
    standalone = load_settings(environ={"SQLD_NODE": "standalone", "SQLD_PRIMARY_URL": "libsql://primary:5001"})
    assert standalone.is_primary
    assert standalone.primary == ""


def test_our_name_beats_its_aliases_and_empty_means_not_set():
    settings = load_settings(
        environ={"PANDO_SECRET": "ours", "JWT_SECRET": "theirs", "PANDO_NODE": "", "REPLICA_ID": "x"}
    )
    assert settings.secret == "ours"
    assert settings.node == "x"


def test_the_primary_flag_makes_a_replica():
    settings = load_settings(flags={"primary": "http://127.0.0.1:8091"})
    assert not settings.is_primary
    assert settings.primary == "http://127.0.0.1:8091"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"flags": {"http": "8090"}}, ["--http", "'8090'", "HOST:PORT"]),
        ({"flags": {"htp": "x"}}, ["htp", "did you mean 'http'"]),
        ({"environ": {"MASTER_URL": "primary:80"}}, ["MASTER_URL", "'primary:80'", "http://"]),
        ({"environ": {"PANDO_WEBB": "1"}}, ["PANDO_WEBB", "did you mean PANDO_WEB"]),
        ({"environ": {"SQLD_NODE": "boss"}}, ["SQLD_NODE", "'boss'", "primary, replica, standalone"]),
        ({"environ": {"REPLICA_MODE": "replica"}}, ["replica", "MASTER_URL"]),
        ({"environ": {"SYNC_INTERVAL": "often"}}, ["SYNC_INTERVAL", "'often'", "push"]),
        ({"environ": {"REPLICA_OMIT_DBS": "../x"}}, ["REPLICA_OMIT_DBS", "'../x'"]),
        ({"environ": {"PANDO_CONFIG": "/nowhere/c.toml"}}, ["/nowhere/c.toml", "not there"]),
        ({"flags": {"durability": "some"}}, ["--durability", "async, quorum, all"]),
        ({"flags": {"body_size_max": "1"}}, ["--body-size-max", "1KiB to 32MiB"]),
        ({"flags": {"node": "a b"}}, ["--node", "'a b'"]),
    ],
)
def test_errors_name_source_value_and_what_is_allowed(arguments, words):
    with pytest.raises(InvalidSetting) as caught:
        load_settings(**arguments)
    for word in words:
        assert word in caught.value.message


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("webs = 1", ["webs", "did you mean 'web'"]),
        ("web = 'many'", ["web", "'many'", "0 to 64"]),
        ("web = {a = 1}", ["web", "dict"]),
        ("web = ", ["cannot be read"]),
    ],
)
def test_errors_in_the_file_name_the_file(tmp_path, content, words):
    file = tmp_path / "pando.toml"
    file.write_text(content)
    with pytest.raises(InvalidSetting) as caught:
        load_settings(config=file)
    for word in [str(file), *words]:
        assert word in caught.value.message


def test_a_secret_is_never_shown(tmp_path):
    assert "hunter2" not in repr(load_settings(environ={"JWT_SECRET": "hunter2"}))


def test_booleans_lists_and_sizes_in_the_file(tmp_path):
    file = tmp_path / "c.toml"
    file.write_text('foreign_keys = false\nlog_size_max = "2 GiB"\nsync_interval = 5\ndurability = "quorum"')
    settings = load_settings(config=file)
    assert settings.foreign_keys is False
    assert settings.log_size_max == 2 << 30
    assert settings.sync_interval == 5.0
    assert settings.durability is Durability.QUORUM


def test_no_environment_name_means_two_settings():
    names = [env for name, (_, row) in rows().items() for env in environment_names(name, row)]
    assert len(names) == len(set(names))


def test_every_default_is_a_value_of_its_kind():
    for name, (item, row) in rows().items():
        if not row.default_text:
            assert row.kind.parse(row.kind.show(item.default)) == item.default, name


@given(st.tuples(st.sampled_from(["127.0.0.1", "::1", "example.org"]), st.integers(1, 65535)))
def test_addresses_survive_their_text_form(address):
    assert kinds.parse_address(kinds.show_address(address)) == address


@given(st.integers(0, 1 << 45))
def test_sizes_survive_their_text_form(value):
    assert kinds.size(0, 1 << 50).parse(kinds.show_bytes(value)) == value


@given(st.text(max_size=30))
def test_no_text_makes_a_kind_fail_otherwise_than_by_saying_so(text):
    for kind in (row.kind for _, row in rows().values()):
        try:
            kind.parse(text)
        except kinds.BadValue:
            continue
