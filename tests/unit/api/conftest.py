"""The handler that most tests of SQL over HTTP ask."""

import pytest
from pipeline_kit import Site


@pytest.fixture
def site(tmp_path):
    site = Site(tmp_path)
    yield site
    site.close()
