"""Walks tests/golden/ltx: sound files decode to what expected.json says, broken ones to the error of defects.json."""

import io
import json
from itertools import pairwise
from pathlib import Path

import pytest

from pando.errors import LtxError

GOLDEN = Path(__file__).parents[2] / "golden" / "ltx"
EXPECTED = json.loads((GOLDEN / "ok" / "expected.json").read_text())
DEFECTS = json.loads((GOLDEN / "defects.json").read_text())
OK_FILES = sorted((GOLDEN / "ok").glob("*.ltx"))
BROKEN_FILES = sorted(path for path in GOLDEN.glob("*/*.ltx") if path.parent.name != "ok")


def name_of(path):
    return f"{path.parent.name}/{path.stem}"


def stream_whole(ltx, data):
    decoder = ltx.LtxDecoder(io.BytesIO(data).read)
    pages = list(decoder)
    decoder.expect_end()
    return ltx.LtxFile(decoder.header, pages, decoder.verified_trailer)


def test_every_file_and_folder_is_expected():
    assert {path.stem for path in OK_FILES} == set(EXPECTED)
    assert {path.parent.name for path in BROKEN_FILES} == set(DEFECTS)
    assert len(BROKEN_FILES) > 70


@pytest.mark.parametrize("path", OK_FILES, ids=name_of)
def test_sound_file(path, ltx):
    data, expected = path.read_bytes(), EXPECTED[path.stem]
    file = ltx.decode_ltx(data)
    shown = {name: value for name in file.header.__slots__ if (value := getattr(file.header, name))}
    pages = {str(pgno): f"{ltx.page_checksum(pgno, page):016x}" for pgno, page in file.pages}
    assert shown == expected["header"]
    assert pages == expected["pages"]
    assert f"{file.trailer.post_apply_checksum:016x}" == expected["post_apply_checksum"]
    assert f"{file.trailer.file_checksum:016x}" == expected["file_checksum"]
    assert stream_whole(ltx, data) == file


@pytest.mark.parametrize("path", OK_FILES, ids=name_of)
def test_sound_file_written_anew(path, ltx):
    """Encoding what was decoded gives a file that decodes to the same."""
    file = ltx.decode_ltx(path.read_bytes())
    encoding = ltx.Encoding.STREAM if file.header.has_checksums else ltx.Encoding.BACKUP
    data = ltx.encode_ltx(file.header, file.pages, file.trailer.post_apply_checksum, encoding=encoding)
    again = ltx.decode_ltx(data)
    assert (again.header, again.pages) == (file.header, file.pages)
    assert again.trailer.post_apply_checksum == file.trailer.post_apply_checksum


@pytest.mark.parametrize("path", BROKEN_FILES, ids=name_of)
@pytest.mark.parametrize("way", ["decode_ltx", "stream"])
def test_broken_file(path, way, ltx):
    defect = DEFECTS[path.parent.name]
    data = path.read_bytes()
    with pytest.raises(LtxError) as caught:
        ltx.decode_ltx(data) if way == "decode_ltx" else stream_whole(ltx, data)
    assert caught.value.code == defect["code"]
    assert defect["names"] in caught.value.message


def test_history_of_golden_files_follows_itself(ltx):
    """Each stream file begins with the checksum that the one before it ends with."""
    files = [ltx.decode_ltx(path.read_bytes()) for path in sorted((GOLDEN / "ok").glob("stream-512-*.ltx"))]
    assert len(files) == 5
    for before, after in pairwise(files):
        assert after.header.pre_apply_checksum == before.trailer.post_apply_checksum
        after.check_growth(before.header.commit)


def test_the_reference_programs_vector(ltx):
    """A file whose checksum the reference program computed (see `vector` in make_ltx.py)."""
    data = (GOLDEN / "ok" / "backup-vector.ltx").read_bytes()
    file = ltx.decode_ltx(data)
    assert file.trailer.file_checksum == 0xFF619AE4E641E982
    assert file.pages == [(1, bytes(i % 7 for i in range(4096)))]
