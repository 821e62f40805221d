"""What tests of several packages need."""

import tempfile
from pathlib import Path

import pytest


@pytest.fixture
def folder():
    """A folder with a short path, for unix sockets."""
    with tempfile.TemporaryDirectory() as directory:
        yield Path(directory)
