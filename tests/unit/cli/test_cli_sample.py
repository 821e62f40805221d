import io
import json
import re

import pytest
from PIL import Image

from pando.cli import sample
from pando.cli.client import Client
from pando.cli.sample import BATCH_ROWS, PICTURES, STATEMENT_ROWS, load_sample, make_batches
from pando.cli.sample_api import LOADER
from pando.cli.sample_pictures import SIZE, draw_city
from pando.errors import CallerError, SqlError


def country(name):
    return {
        "name": name,
        "capital": "c",
        "continentcode": "EU",
        "population": 5,
        "areakm2": 75,
        "currencycode": "EUR",
        "languages": "xx",
    }


def city(number):
    return {
        "geonameid": number,
        "name": f"City {number}",
        "countrycode": "AA",
        "latitude": 1.5,
        "longitude": 2,
        "population": number,
        "timezone": "Europe/Here",
        "alternatenames": [f"Stadt {number}", "Ville"],
    }


CITIES = BATCH_ROWS + 10
BATCHES = 3
STEPS = BATCHES + 2
"""Pictures and a user follow the rows."""
ALL = [2, CITIES, CITIES, STEPS]


def source():
    countries = {"BB": country("B"), "AA": country("A")}
    return countries, {str(number): city(number) for number in range(1, CITIES + 1)}


class BreakingClient(Client):
    """Loses the answer of a request, by number."""

    def __init__(self, url, *, lose_answer):
        super().__init__(url)
        self.sent = 0
        self._lose_answer = lose_answer

    def request(self, *args, **kwargs):
        self.sent += 1
        answer = super().request(*args, **kwargs)
        if self.sent == self._lose_answer:
            raise SqlError("the connection broke after the write")
        return answer


class FakeRecords:
    """The routes of the records API that loading needs, over the tables of the server's database."""

    def __init__(self, server):
        self.server = server
        self.users = []
        self.uploads = []
        server.db.execute("CREATE TABLE _collections (id, name, options)")
        server.db.execute(
            "CREATE TABLE _superusers (id, email, password, tokenKey, verified, emailVisibility, created, updated)"
        )
        secret = json.dumps({"authToken": {"secret": "s" * 50}})
        server.db.execute("INSERT INTO _collections VALUES ('pbc_1', '_superusers', ?)", (secret,))
        server.routes["GET", "/api/collections/_superusers/auth-methods"] = {}
        server.routes["POST", "/api/collections"] = self.make
        server.routes["POST", "/api/collections/users/records"] = lambda _, body: (
            self.users.append(json.loads(body)) or {}
        )
        for number in range(1, CITIES + 1):
            path = f"/api/collections/cities/records/{number}"
            server.routes["PATCH", path] = lambda _, body, number=number: self.upload(number, body)

    def make(self, _, body):
        definition = json.loads(body)
        name = definition["name"]
        names = [field["name"] for field in definition["fields"]]
        columns = "id TEXT PRIMARY KEY" + "".join(f", {each} NOT NULL DEFAULT ''" for each in names if each != "id")
        self.server.db.execute(f"CREATE TABLE {name} ({columns})")
        self.server.routes["GET", f"/api/collections/{name}"] = {"id": f"id_of_{name}"}
        return {"id": f"id_of_{name}"}

    def upload(self, number, body):
        self.uploads.append((number, body))
        self.server.db.execute("UPDATE cities SET photo = 'there.jpg' WHERE id = ?", (str(number),))
        return {}


@pytest.fixture
def records(server):
    return FakeRecords(server)


@pytest.fixture
def client(server, records):
    with Client(server.url) as made:
        yield made


def counts(server):
    return [
        server.db.execute(f"SELECT count(*) FROM {name}").fetchone()[0]
        for name in ("countries", "cities", "cities_fts", "sample_batches")
    ]


def load(client, seen=None):
    report = lambda *counts: seen is not None and seen.append(counts)  # noqa: E731
    return load_sample(client, report, password="secret words", source=source)


def test_all_is_loaded_and_progress_goes_up_to_the_total(server, client):
    seen = []
    loaded = load(client, seen)
    assert loaded.loaded_now == loaded.total == STEPS
    assert seen == [(number, STEPS) for number in range(STEPS + 1)]
    assert counts(server) == ALL
    assert server.db.execute("SELECT * FROM cities WHERE id = '3'").fetchone() == (
        *("3", "City 3", "AA", '{"lon":2.0,"lat":1.5}', 3, "Europe/Here", ""),
    )


def test_the_query_finds_cities_by_another_name(client):
    load(client)
    rows = client.execute(sample.QUERY, ("ville",)).rows
    assert rows[0] == (f"City {CITIES}", "A", CITIES)
    assert len(rows) == 5


def test_the_largest_cities_get_a_picture_and_there_is_a_user(client, records):
    load(client)
    assert sorted(number for number, _ in records.uploads) == [*range(CITIES - PICTURES + 1, CITIES + 1)]
    body = records.uploads[0][1]
    picture = re.fullmatch(rb"--(\w+)\r\n.*?\r\n\r\n(.*)\r\n--\1--\r\n", body, re.DOTALL).group(2)
    assert Image.open(io.BytesIO(picture)).size == SIZE
    (user,) = records.users
    assert (user["email"], user["password"]) == ("demo@example.com", "secret words")


def test_a_picture_is_the_same_each_time_and_differs_by_city():
    assert draw_city("A", 1) == draw_city("A", 1) != draw_city("A", 2)


def test_nobody_keeps_the_rights_that_loading_needed(server, client):
    load(client)
    assert server.db.execute("SELECT count(*) FROM _superusers").fetchone() == (0,)
    tokens = {headers.get("authorization") for _, path, _, headers in server.requests if path == "/api/collections"}
    assert len(tokens) == 1 and None not in tokens


def test_a_loader_that_broke_off_before_leaves_nobody_behind(server, client):
    server.db.execute("INSERT INTO _superusers (id, email) VALUES ('left', ?), ('kept', 'me@example.com')", (LOADER,))
    load(client)
    assert server.db.execute("SELECT id FROM _superusers").fetchall() == [("kept",)]


def test_tables_of_somebody_else_are_left_alone(server, client):
    server.db.execute("CREATE TABLE cities (mine)")
    with pytest.raises(CallerError, match="cities of its own") as caught:
        load(client)
    assert caught.value.code == "NO_SAMPLE_DATA"
    assert server.db.execute("SELECT name FROM sqlite_schema WHERE name LIKE 'sample%'").fetchall() == []


def test_nothing_is_loaded_twice_nor_is_the_source_read_again(server, client, records):
    load(client)
    server.db.execute("DELETE FROM cities WHERE id = '7'")
    server.db.execute("UPDATE cities SET photo = '' WHERE id = ?", (str(CITIES),))
    uploads = len(records.uploads)
    again = load_sample(client, lambda *_: None, password="x", source=lambda: pytest.fail("read again"))
    assert (again.loaded_now, len(records.users), len(records.uploads)) == (0, 1, uploads)
    assert counts(server) == [2, CITIES - 1, CITIES, STEPS]


REQUESTS = 17 + PICTURES + BATCHES
"""What loading all sends."""


SOME = (1, 6, 12, REQUESTS)
STOPS = [*range(1, 16), 20, REQUESTS - 3, REQUESTS - 2, REQUESTS - 1, REQUESTS]


@pytest.mark.parametrize(
    "number", [pytest.param(at, marks=() if at in SOME else pytest.mark.full, id=str(at)) for at in STOPS]
)
def test_loading_goes_on_where_it_stopped(server, client, records, number, monkeypatch):
    monkeypatch.setattr(Client, "request", counted(server, number))
    with pytest.raises(SqlError):
        load(client)
    monkeypatch.undo()
    load(client)
    assert counts(server) == ALL
    assert len({picture for picture, _ in records.uploads}) == PICTURES
    assert len(records.users) in (1, 2)
    assert server.db.execute("SELECT count(*) FROM _superusers").fetchone() == (0,)


def counted(server, last):
    """Give a way to send requests that breaks for good with one of them, by number."""
    send, sent = Client.request, []

    def request(self, *args, **kwargs):
        sent.append(args)
        if len(sent) >= last:
            raise SqlError("the connection broke")
        return send(self, *args, **kwargs)

    return request


def test_the_number_of_requests_is_known(server, client):
    load(client)
    assert len(server.requests) == REQUESTS


@pytest.mark.parametrize("number", [9, 10, 11, 13])
def test_a_batch_whose_answer_was_lost_is_not_loaded_again(server, records, number):
    with BreakingClient(server.url, lose_answer=number) as breaking:
        load(breaking)
    assert counts(server) == ALL


def test_a_statement_that_fails_takes_its_whole_batch_back(server, client):
    load(client)
    with pytest.raises(SqlError, match="UNIQUE"):
        sample._send(client, "", [("DELETE FROM countries", ()), ("INSERT INTO cities SELECT * FROM cities", ())])
    assert counts(server) == ALL


def test_batches_hold_countries_first_and_every_city_once():
    batches = list(make_batches(*source()))
    assert [sum(sql.count("(?") for sql, _ in batch) for batch in batches] == [2, BATCH_ROWS * 2, 20]
    assert max(sql.count("(?") for batch in batches for sql, _ in batch) == STATEMENT_ROWS
    ((_, countries),) = batches[0]
    assert (countries[0], countries[9]) == ("AA", "BB")


@pytest.mark.slow
def test_the_real_data_have_the_expected_size():
    countries, cities = sample.read_package()
    batches = list(make_batches(countries, cities))
    assert len(countries) == 252
    assert len(cities) == 34_006
    assert sum(sql.count("(?") for batch in batches for sql, _ in batch) == 252 + 2 * 34_006
