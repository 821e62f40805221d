import pytest
from records_site import Site

from pando.records.auth.provider_names import PROVIDER_NAMES
from pando.records.defining import PROVIDERS
from pando.records.listing import Page
from pando.records.listing_collections import CollectionPage


@pytest.fixture
def site(tmp_path):
    made = Site(tmp_path).begin()
    for name in ("alpha", "beta", "gamma"):
        made.collection(name, {"name": "title", "type": "text"})
    yield made
    made.close()


def names(site, query):
    answer = site("GET", f"collections?{query}", token=site.su)
    assert answer.status == 200, answer.body
    return [each["name"] for each in answer.json["items"]]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("filter=(name='beta')", ["beta"]),
        ("filter=(system=false%26%26type='base')&sort=-name", ["gamma", "beta", "alpha"]),
        ("filter=(system=false%26%26type='base')&sort=name&perPage=1&page=2", ["beta"]),
        ("filter=(type='auth')&sort=name", ["_superusers", "users"]),
    ],
)
def test_collections_are_filtered_and_sorted(site, query, expected):
    assert names(site, query) == expected


@pytest.mark.parametrize("query", ["filter=(fields='x')", "filter=(", "sort=nowhere"])
def test_what_cannot_be_asked_is_refused(site, query):
    assert site("GET", f"collections?{query}", token=site.su).status == 400


def test_pages_are_counted_if_asked():
    assert CollectionPage(Page(size=10), (), 21).pages == 3
    assert CollectionPage(Page(size=10), (), -1).pages == -1


def test_every_provider_that_may_be_named_has_a_name():
    assert set(PROVIDER_NAMES) >= PROVIDERS
    assert all(PROVIDER_NAMES.values())
