import pytest

from pando.cli import sample
from pando.cli.client import Client
from pando.cli.sample import BATCH_ROWS, STATEMENT_ROWS, load_sample, make_batches
from pando.errors import SqlError


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
ALL = [2, CITIES, CITIES, 3]


def source():
    countries = {"BB": country("B"), "AA": country("A")}
    return countries, {str(number): city(number) for number in range(1, CITIES + 1)}


class BreakingClient(Client):
    """Loses a request before it is sent, or its answer, by number; `gone` keeps the server away from then on."""

    def __init__(self, url, *, lose_request=0, lose_answer=0, gone=False):
        super().__init__(url)
        self.sent = 0
        self._lose_request, self._lose_answer, self._gone = lose_request, lose_answer, gone

    def request(self, *args, **kwargs):
        self.sent += 1
        if self.sent == self._lose_request or (self._gone and self.sent > self._lose_request):
            raise SqlError("the connection broke")
        answer = super().request(*args, **kwargs)
        if self.sent == self._lose_answer:
            raise SqlError("the connection broke after the write")
        return answer


@pytest.fixture
def client(server):
    with Client(server.url) as made:
        yield made


def counts(server):
    return [
        server.db.execute(f"SELECT count(*) FROM {name}").fetchone()[0]
        for name in ("countries", "cities", "cities_fts", "sample_batches")
    ]


def load(client, seen=None):
    return load_sample(client, lambda *counts: seen is not None and seen.append(counts), source=source)


def test_all_is_loaded_and_progress_goes_up_to_the_total(server, client):
    seen = []
    loaded = load(client, seen)
    assert loaded.loaded_now == loaded.total == 3
    assert seen == [(number, 3) for number in range(4)]
    assert counts(server) == ALL


def test_the_query_finds_cities_by_another_name(client):
    load(client)
    rows = client.execute(sample.QUERY, ("ville",)).rows
    assert rows[0] == (f"City {CITIES}", "A", CITIES)
    assert len(rows) == 5


def test_nothing_is_loaded_twice_nor_is_the_source_read_again(server, client):
    load(client)
    assert load_sample(client, lambda *_: None, source=lambda: pytest.fail("read again")).loaded_now == 0
    assert counts(server) == ALL


@pytest.mark.parametrize("number", range(1, 6))
def test_loading_goes_on_where_it_stopped(server, client, number):
    with BreakingClient(server.url, lose_request=number, gone=True) as breaking, pytest.raises(SqlError):
        load(breaking)
    load(client)
    assert counts(server) == ALL


@pytest.mark.parametrize("number", range(3, 6))
def test_a_batch_whose_answer_was_lost_is_not_loaded_again(server, number):
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
    assert (countries[0], countries[8]) == ("AA", "BB")


@pytest.mark.slow
def test_the_real_data_have_the_expected_size():
    countries, cities = sample.read_package()
    batches = list(make_batches(countries, cities))
    assert len(countries) == 252
    assert len(cities) == 34_006
    assert sum(sql.count("(?") for batch in batches for sql, _ in batch) == 252 + 2 * 34_006
