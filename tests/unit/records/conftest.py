"""The site that most tests of records ask."""

import pytest
from records_site import Site


@pytest.fixture
def site(tmp_path):
    made = Site(tmp_path).begin()
    yield made
    made.close()
