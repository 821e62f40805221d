"""Which database a request means, by path, headers and host."""

from base64 import b64encode

import pytest

from pando.api.pipeline import Request, read_headers
from pando.errors import InvalidDatabaseName, InvalidRequest
from pando.sql.access import FULL_ACCESS


def meant(*headers, path=None, from_host=False):
    request = Request(FULL_ACCESS, "/v2/pipeline")
    pairs = [(name.encode(), value if isinstance(value, bytes) else value.encode()) for name, value in headers]
    read_headers(request, pairs, path, database_from_host=from_host)
    return request.database


SHOP = ("x-namespace", "shop")
BINARY = ("x-namespace-bin", b64encode(b"bin"))


@pytest.mark.parametrize(
    ("headers", "path", "name"),
    [
        ((), None, "data"),
        ((SHOP,), None, "shop"),
        ((SHOP, BINARY), None, "bin"),
        ((BINARY, SHOP), None, "bin"),
        ((SHOP, BINARY), "path", "path"),
        ((("x-namespace-bin", "YmlubmFtZQ"),), None, "binname"),
        ((("x-namespace", "default"),), None, "data"),
    ],
)
def test_the_first_that_is_there_counts(headers, path, name):
    assert meant(*headers, path=path) == name


@pytest.mark.parametrize("header", [("x-namespace", "127"), ("x-namespace-bin", b64encode(b"127"))])
def test_the_first_part_of_the_servers_address_is_no_name(header):
    assert meant(header, ("host", "127.0.0.1:8080")) == "data"
    assert meant(header, ("host", "127.0.0.1")) == "data"
    assert meant(header, ("host", "127.example.com")) == "127"
    assert meant(header, ("host", "10.0.0.1")) == "127"
    assert meant(("host", "127.0.0.1"), path="127") == "127"


def test_hosts_name_databases_only_where_that_is_wanted():
    assert meant(("host", "shop.example.com"), from_host=True) == "shop"
    assert meant(("host", "shop.example.com")) == "data"
    assert meant(("host", "127.0.0.1"), from_host=True) == "data"


@pytest.mark.parametrize("value", ["!", "/w==", "Zg=g"])
def test_what_is_no_base64_of_a_text_is_refused(value):
    with pytest.raises(InvalidRequest, match="x-namespace-bin"):
        meant(("x-namespace-bin", value))


@pytest.mark.parametrize("name", ["../x", "a b", "-x", "x" * 129, "ü"])
def test_what_is_no_name_is_refused(name):
    for header in (("x-namespace", name), ("x-namespace-bin", b64encode(name.encode()))):
        with pytest.raises(InvalidDatabaseName):
            meant(header)
