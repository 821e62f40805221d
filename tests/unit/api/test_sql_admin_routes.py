"""The admin routes on small stands-in: who may ask, what is passed on, what a failure in the middle leaves behind."""

import asyncio
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pando.api.admin import AdminRoutes, AdminServices
from pando.api.http import Request
from pando.api.transfers import Transfers
from pando.errors import Forbidden, Overloaded, PandoError, PrimaryUnavailable, Unauthorized
from pando.sql.config import NO_CONFIG, DatabaseConfig, decode_config
from pando.sql.system import Snapshot
from pando.store.layout import Layout
from pando.testing.virtual_clock import VirtualClock


class System:
    """The configurations, without a database."""

    def __init__(self):
        self.configs = {}
        self.written = []

    @property
    def snapshot(self):
        return Snapshot(self.configs, frozenset())

    def config(self, name):
        return self.configs.get(name, NO_CONFIG)

    async def rows(self, _sql, *_args):
        return []

    async def write(self, statements):
        for statement in statements:
            self.written.append(statement.args)
            if len(statement.args) == 1:
                self.configs.pop(statement.args[0], None)
            else:
                self.configs[statement.args[0]] = decode_config(statement.args[1])


class Store:
    """The databases of a primary, by name."""

    def __init__(self):
        self.names = {"data", "_pando", "shop"}
        self.is_primary = True
        self.primary_reason = "none is known"
        self.topology = SimpleNamespace(primary_url="", node="n1")
        self.fail = None

    async def list_databases(self):
        return tuple(self.names)

    async def create_database(self, name):
        if self.fail is not None:
            raise self.fail
        self.names.add(name)

    async def import_database(self, name, path, *, replace):
        await self.create_database(name)

    async def delete_database(self, name):
        self.names.discard(name)

    async def checkpoint_database(self, name):
        pass


class World:
    def __init__(self, folder):
        self.store, self.system, self.forgotten = Store(), System(), []
        stats = SimpleNamespace(forget=self.forgotten.append, diagnostics=None, of_node=None, reset=None)
        self.routes = AdminRoutes(
            AdminServices(
                store=self.store,
                authenticate=self.authenticate,
                system=self.system,
                transfers=Transfers(folder),
                stats=stats,
                layout=Layout(folder),
                clock=VirtualClock(),
                forget=self.forgotten.append,
                auth_key="the key",
            )
        )

    def authenticate(self, headers):
        found = dict(headers).get(b"authorization", b"")
        if not found:
            raise Unauthorized("a token is needed")
        if found != b"Bearer admin":
            raise Forbidden("not this one")

    def __call__(self, method, path, body=b"", *, token=b"Bearer admin", query=b""):
        pieces = [{"type": "http.request", "body": body, "more_body": False}, {"type": "http.disconnect"}]

        async def receive():
            return pieces.pop(0) if len(pieces) > 1 else pieces[0]

        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "query_string": query,
            "headers": [(b"authorization", token)] if token else [],
        }
        return asyncio.run(self.routes(Request(scope, receive)))


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


def test_only_administrators_and_who_has_the_key_may_ask(world):
    for token, error in ((b"", Unauthorized), (b"Bearer other", Forbidden), (b"Basic other", Forbidden)):
        with pytest.raises(error):
            world("GET", "/v1/namespaces", token=token)
    assert world("GET", "/v1/namespaces", token=b"basic the key").status == 200


def test_the_list_is_in_order_and_in_pages(world):
    world.store.names |= {f"d{number}" for number in range(5)}
    first = world("GET", "/v1/namespaces", query=b"limit=3&prefix=d").body
    assert b'"next":"d2"' in first
    rest = world("GET", "/v1/namespaces", query=b"limit=3&prefix=d&after=d2").body
    assert [name in rest for name in (b'"d2"', b'"d3"', b'"data"', b'"next":null', b"_pando")] == [
        *(False, True, True, True),
        False,
    ]
    for query in (b"limit=0", b"limit=x", b"limit=99999999999999999999"):
        with pytest.raises(PandoError, match="limit"):
            world("GET", "/v1/namespaces", query=query)


def test_a_limit_is_configured_before_there_is_a_database(world):
    world("POST", "/v1/namespaces/new/create", b'{"max_db_size": "1MB"}')
    assert "new" in world.store.names
    assert world.system.configs == {"new": DatabaseConfig(max_db_size=1_000_000)}
    world("DELETE", "/v1/namespaces/new")
    assert (world.system.configs, world.forgotten) == ({}, ["new", "new"])


def test_a_database_of_an_earlier_name_leaves_nothing_to_the_next_one(world):
    world.system.configs["new"] = DatabaseConfig(block_reads=True)
    world("POST", "/v1/namespaces/new/create")
    assert world.system.configs == {}


def test_what_cannot_be_made_leaves_no_configuration(world):
    world.store.fail = Overloaded("too many databases")
    with pytest.raises(Overloaded):
        world("POST", "/v1/namespaces/new/create", b'{"max_db_size": "1MB"}')
    assert world.system.configs == {}


def test_plain_databases_cost_no_row(world):
    world("POST", "/v1/namespaces/new/create", b"{}")
    world("POST", "/v1/namespaces/new/config", b'{"block_reads": false, "block_writes": false}')
    assert world.system.written == []


def test_a_failed_load_leaves_no_file(world, tmp_path):
    with pytest.raises(PandoError, match="within a transaction"):
        world("POST", "/v1/namespaces/new/load", b"CREATE TABLE t(a);")
    assert list(tmp_path.glob("transfer-*")) == []
    assert "new" not in world.store.names
    assert world("POST", "/v1/namespaces/new/load", b"BEGIN; CREATE TABLE t(a); COMMIT;").status == 200


def test_a_replica_passes_on_what_changes_something_and_answers_the_rest(world):
    world.store.is_primary = False
    for method, path in (
        ("POST", "/new/create"),
        ("DELETE", "/shop"),
        ("POST", "/shop/config"),
        ("POST", "/shop/load"),
    ):
        with pytest.raises(PrimaryUnavailable):
            world(method, f"/v1/namespaces{path}")
    assert world("GET", "/v1/namespaces/shop/config").status == 200


PATHS = st.lists(
    st.sampled_from(["shop", "data", "_pando", "create", "config", "stats", "top", "fork", "load", "..", "", "é"])
    | st.text(max_size=5),
    max_size=5,
).map("/".join)


@settings(max_examples=150, deadline=None)
@given(
    method=st.sampled_from(["GET", "POST", "DELETE", "PUT", "HEAD", "PATCH"]),
    path=PATHS,
    body=st.binary(max_size=50) | st.sampled_from([b"{}", b"[]", b'{"dump_url":"x"}', b'{"block_reads":1}']),
    query=st.binary(max_size=20),
)
def test_whatever_is_asked_is_answered_or_refused(method, path, body, query, tmp_path_factory):
    world = World(tmp_path_factory.mktemp("w"))
    if path.endswith(("stats", "/top")) or "fork" in path or "stats/" in path:
        return  # they need more of a node than there is here
    try:
        assert world(method, f"/v1/namespaces/{path}", body, query=query).status in {200, 405}
    except PandoError as error:
        assert 400 <= error.status < 500
    assert "_pando" in world.store.names
    assert "data" in world.store.names
