"""A new file is whole or not there, and an old one is never touched."""

import errno

import pytest

from pando.cli.new_file import new_file
from pando.errors import InvalidRequest, StorageError


def test_what_was_written_stays(tmp_path):
    with new_file(tmp_path / "copy") as made:
        made.write(b"all of it")
    assert (tmp_path / "copy").read_bytes() == b"all of it"


def test_a_file_that_exists_is_left_alone(tmp_path):
    (tmp_path / "copy").write_bytes(b"mine")
    with pytest.raises(InvalidRequest, match="copy exists"), new_file(tmp_path / "copy"):
        pytest.fail("it was opened")
    assert (tmp_path / "copy").read_bytes() == b"mine"


def test_a_place_that_is_not_there_is_the_callers_mistake(tmp_path):
    with pytest.raises(InvalidRequest, match="cannot be written"), new_file(tmp_path / "no" / "copy"):
        pytest.fail("it was opened")


@pytest.mark.parametrize(
    ("fails", "told"),
    [(OSError(errno.ENOSPC, "No space left"), StorageError), (KeyboardInterrupt(), KeyboardInterrupt)],
)
def test_a_part_is_removed(tmp_path, fails, told):
    with pytest.raises(told), new_file(tmp_path / "copy") as made:
        made.write(b"half")
        raise fails
    assert not (tmp_path / "copy").exists()
