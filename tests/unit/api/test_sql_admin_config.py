"""Bodies of the admin routes: what sqld's clients send is taken or refused with the reason, never misunderstood."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pando.api.admin_config import ConfigBody, CreateBody, changed, config_view, decode_body, parse_size, wanted_config
from pando.api.admin_loading import split_dump_url
from pando.api.dump import flag
from pando.api.listen import wanted_table
from pando.errors import InvalidRequest, PandoError
from pando.sql.config import NO_CONFIG, DatabaseConfig

KEY = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"


def config_of(**fields):
    body = decode_body(json.dumps({"block_reads": False, "block_writes": False, **fields}).encode(), ConfigBody)
    return changed(DatabaseConfig(max_db_size=1 << 20, jwt_key=KEY, freshness="strong", block_writes=True), body)


@pytest.mark.parametrize(
    ("text", "size"),
    [("5MB", 5_000_000), ("5 mib", 5 << 20), ("1.5GB", 1_500_000_000), ("700", 700), ("2K", 2000), ("1PB", 10**15)],
)
def test_sizes_are_read_as_sqld_reads_them(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "MB", "-5MB", "5XB", "1e9", "5MB5", "9" * 100])
def test_other_sizes_are_refused(text):
    with pytest.raises(InvalidRequest, match="is no size"):
        parse_size(text)


def test_what_a_configuration_does_not_name_stays_and_null_takes_it_away():
    kept = config_of(block_reads=True, block_reason="x")
    assert kept == DatabaseConfig(
        max_db_size=1 << 20, jwt_key=KEY, freshness="strong", block_reads=True, block_reason="x"
    )
    assert config_of(max_db_size=None, jwt_key=None, freshness=None) == NO_CONFIG
    assert config_of(max_db_size="5MB", txn_timeout_s=2.5).max_db_size == 5_000_000


def test_what_is_answered_can_be_sent_back():
    config = DatabaseConfig(block_reads=True, max_db_size=1 << 20, jwt_key=KEY, txn_timeout_s=1.0, freshness="strong")
    view = json.dumps(config_view(config)).encode()
    assert changed(NO_CONFIG, decode_body(view, ConfigBody)) == config


def test_a_new_database_may_have_everything_sqld_sends_by_itself():
    body = b'{"dump_url": null, "max_db_size": "5MB", "heartbeat_url": null, "bottomless_db_id": null, "jwt_key": null,'
    body += b'"txn_timeout_s": null, "max_row_size": null, "shared_schema": false, "shared_schema_name": null,'
    body += b'"allow_attach": false, "durability_mode": "strong"}'
    assert wanted_config(decode_body(body, CreateBody)) == DatabaseConfig(max_db_size=5_000_000)
    assert wanted_config(decode_body(b"{}", CreateBody)) == NO_CONFIG
    assert wanted_config(decode_body(b"", CreateBody)) == NO_CONFIG


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"max_db_sise": 5}, "max_db_sise"),
        ({"shared_schema": True}, "no shared schemas"),
        ({"shared_schema_name": "x"}, "no shared schemas"),
        ({"allow_attach": True}, "cannot be attached"),
        ({"heartbeat_url": "http://x"}, "no heartbeats"),
        ({"max_row_size": 5}, "longest row"),
        ({"max_db_size": 5}, "at least 65536"),
        ({"max_db_size": 1 << 62}, "max_db_size"),
        ({"txn_timeout_s": 0}, "txn_timeout_s is 0"),
        ({"txn_timeout_s": 4000}, "at most 3600"),
        ({"freshness": "newest"}, "reshness"),
        ({"jwt_key": "no key"}, "jwt_key cannot be used"),
        ({"block_reason": "x" * 1001}, "1001 characters"),
        ({"durability_mode": "none"}, "durability_mode"),
        ([], "body"),
    ],
)
def test_what_cannot_be_done_is_refused_with_the_reason(body, reason):
    with pytest.raises(InvalidRequest, match=reason):
        wanted_config(decode_body(json.dumps(body).encode(), CreateBody))


def test_both_blocks_must_be_named():
    with pytest.raises(InvalidRequest, match="block_writes"):
        decode_body(b'{"block_reads": true}', ConfigBody)


@given(
    st.binary() | st.recursive(st.none() | st.booleans() | st.floats() | st.text(), st.lists).map(repr).map(str.encode)
)
def test_whatever_comes_is_refused_and_never_breaks(body):
    for kind in (ConfigBody, CreateBody):
        try:
            decode_body(body, kind)
        except PandoError:
            continue


@pytest.mark.parametrize(
    ("url", "base", "path"),
    [
        ("http://h/d.sql", "http://h:80", "/d.sql"),
        ("https://h:8/a/b?c=d", "https://h:8", "/a/b?c=d"),
        ("http://[::1]:5", "http://[::1]:5", "/"),
    ],
)
def test_addresses_of_dumps_are_cut(url, base, path):
    assert split_dump_url(url) == (base, path)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("file:///etc/passwd", "files of the server are not read"),
        ("ftp://h/x", "no http or https"),
        ("http:///x", "no http or https"),
        ("http://h:99999/", "no address"),
        ("http://u:p@h/", "a password"),
        ("http://h/a b", "blanks"),
        ("http://h/\r\nX: y", "blanks|no http"),
    ],
)
def test_other_addresses_are_refused(url, reason):
    with pytest.raises(InvalidRequest, match=reason):
        split_dump_url(url)


def test_parameters_are_read():
    assert flag("TRUE", "x")
    assert flag("", "x")
    assert not flag("0", "x")
    with pytest.raises(InvalidRequest, match="x is 'maybe'"):
        flag("maybe", "x")
    assert wanted_table(b"table=T&action=insert&action=delete") == "t"
    for query, reason in (
        (b"", "which table"),
        (b"table=a&table=b", "which table"),
        (b"table=a&action=x", "'x' is none"),
    ):
        with pytest.raises(InvalidRequest, match=reason):
            wanted_table(query)
