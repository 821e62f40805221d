import sys
from pathlib import Path
from random import Random

import pytest

from pando.errors import NotReady
from pando.records.engine import Statement
from pando.records.schema_cache import SchemaCache
from pando.records.setup import ensure
from pando.records.sqlite_engine import SqliteEngine

sys.path.insert(0, str(Path(__file__).parents[1] / "sql"))
from service_bench import Node

NOW_MS = 1_790_000_000_123


@pytest.fixture
def node(tmp_path):
    made = Node(tmp_path, is_primary=True)
    yield made
    made.close()


def test_tables_are_made_once_and_become_the_schema(node):
    engine = SqliteEngine(node.service, "data")
    cache = SchemaCache(engine)
    assert node.run(cache.current()) is None
    assert node.run(ensure(engine, random=Random(1), now_ms=NOW_MS))
    assert not node.run(ensure(engine, random=Random(2), now_ms=NOW_MS))
    known = node.run(cache.current())
    names = {each.name for each in known.schema.collections}
    assert names >= {"users", "_superusers", "_externalAuths", "_mfas", "_otps", "_authOrigins"}
    assert known.schema.find("users").id == "_pb_users_auth_"
    assert known.settings.batch.max_requests == 50
    assert node.run(engine.query("select count(*) from users")) == [(0,)]


def test_a_change_is_noticed_and_nothing_is_read_without_one(node):
    engine = SqliteEngine(node.service, "data")
    cache = SchemaCache(engine)
    node.run(ensure(engine, random=Random(1), now_ms=NOW_MS))
    first = node.run(cache.current())
    assert node.run(cache.current()) is first
    node.run(engine.write([Statement("insert into t values(77, 'x')")]))
    assert node.run(cache.current()) is first, "a commit elsewhere changes no collection"
    later = "2099-01-01 00:00:00.000Z"
    node.run(
        engine.write([Statement("update _collections set listRule = '', updated = ? where name = 'users'", (later,))])
    )
    second = node.run(cache.current())
    assert second.schema.find("users").rules.list == ""
    assert second.schema.version > first.schema.version
    settings = "insert into _params(id, value, updated) values('settings', ?, ?)"
    node.run(engine.write([Statement(settings, ('{"batch":{"enabled":true}}', later))]))
    assert node.run(cache.current()).settings.batch.enabled


def test_settings_that_pocketbase_wrote_are_a_blob(node):
    engine = SqliteEngine(node.service, "data")
    node.run(ensure(engine, random=Random(1), now_ms=NOW_MS))
    settings = "insert into _params(id, value) values('settings', ?)"
    node.run(engine.write([Statement(settings, (b'{"meta":{"appName":"Theirs"}}',))]))
    assert node.run(SchemaCache(engine).current()).settings.meta.app_name == "Theirs"


def test_a_replica_makes_nothing(tmp_path):
    replica = Node(tmp_path, is_primary=False)
    try:
        with pytest.raises(NotReady):
            replica.run(ensure(SqliteEngine(replica.service, "data"), random=Random(1), now_ms=NOW_MS))
    finally:
        replica.close()
