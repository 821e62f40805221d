"""`pando ltx` on real files: a SQLite database, its history as LTX files, and every way to use them wrongly."""

import json
import sqlite3
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pando.cli.ltx import ltx_app
from pando.ltx import Encoding, LtxHeader, decode_ltx, encode_ltx, normalise_page_one, rolling_checksum
from pando.types import EMPTY_CHECKSUM

GOLDEN = Path(__file__).parents[2] / "golden" / "ltx"
PAGE_SIZE = 4096


def run(*arguments):
    return CliRunner().invoke(ltx_app, [str(argument) for argument in arguments])


def run_json(*arguments):
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def pages_of(path):
    data = path.read_bytes()
    return [data[at : at + PAGE_SIZE] for at in range(0, len(data), PAGE_SIZE)]


@pytest.fixture
def history(tmp_path):
    """A database that grew and shrank, and per commit the files of both encodings; page 1 normalised."""
    database = tmp_path / "source.db"
    connection = sqlite3.connect(database, isolation_level=None)
    connection.execute(f"PRAGMA page_size={PAGE_SIZE}")
    statements = [
        "CREATE TABLE t(a INTEGER PRIMARY KEY, b)",
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 40) "
        "INSERT INTO t SELECT i, hex(randomblob(400)) FROM n",
        "UPDATE t SET b = 'x' WHERE a = 7",
        "DELETE FROM t WHERE a > 5",
        "VACUUM",
        "INSERT INTO t VALUES(100, zeroblob(9000))",
    ]
    files = {encoding: [] for encoding in Encoding}
    before, checksum = [], EMPTY_CHECKSUM
    for txid, statement in enumerate(statements, 1):
        connection.execute(statement)
        now = pages_of(database)
        now[0] = normalise_page_one(now[0])
        changed = [(n, page) for n, page in enumerate(now, 1) if n > len(before) or before[n - 1] != page]
        after = rolling_checksum(enumerate(now, 1), PAGE_SIZE)
        header = LtxHeader(
            page_size=PAGE_SIZE,
            commit=len(now),
            min_txid=txid,
            max_txid=txid,
            timestamp_ms=1_700_000_000_000 + txid,
            pre_apply_checksum=0 if txid == 1 else checksum,
        )
        for encoding in Encoding:
            path = tmp_path / f"{encoding.value}-{txid}.ltx"
            path.write_bytes(encode_ltx(header, changed, after, encoding=encoding, previous_commit=len(before)))
            files[encoding].append(path)
        before, checksum = now, after
    connection.close()
    return database, files, b"".join(before), checksum


def test_apply_gives_the_database(history, tmp_path):
    _, files, content, checksum = history
    for encoding in Encoding:
        target = tmp_path / f"{encoding.value}.db"
        applied = run_json("apply", "-db", target, *files[encoding])
        assert target.read_bytes() == content
        assert applied["checksum"] == f"{checksum:016x}"
        assert (applied["files"], applied["txid"]) == (6, "0000000000000006")
        assert not list(tmp_path.glob("*.tmp"))
        connection = sqlite3.connect(target)
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        connection.close()


def test_apply_in_steps_to_an_existing_file(history, tmp_path):
    _, files, content, _ = history
    target = tmp_path / "o.db"
    for path in files[Encoding.STREAM]:
        assert run("apply", "--db", target, path).exit_code == 0
    assert target.read_bytes() == content


def test_apply_takes_a_file_that_sqlite_wrote(history, tmp_path):
    """The checksum in the LTX file is that of the normalised page 1; SQLite's own file has other bytes there."""
    database, _, content, checksum = history
    page_two = b"z" * PAGE_SIZE
    pages = [content[at : at + PAGE_SIZE] for at in range(0, len(content), PAGE_SIZE)]
    pages[1] = page_two
    header = LtxHeader(page_size=PAGE_SIZE, commit=len(pages), min_txid=7, max_txid=7, pre_apply_checksum=checksum)
    path = tmp_path / "next.ltx"
    path.write_bytes(encode_ltx(header, [(2, page_two)], rolling_checksum(enumerate(pages, 1), PAGE_SIZE)))
    assert run("apply", "-db", database, path).exit_code == 0
    assert pages_of(database)[1] == page_two


def test_apply_changes_nothing_when_a_file_does_not_fit(history, tmp_path):
    _, files, _, _ = history
    target = tmp_path / "o.db"
    good = files[Encoding.STREAM]
    assert run("apply", "-db", target, *good[:2]).exit_code == 0
    before = target.read_bytes()
    broken = tmp_path / "broken.ltx"
    broken.write_bytes(good[3].read_bytes()[:-1] + b"\0")
    backups = files[Encoding.BACKUP]
    for wrong in ([good[3]], [good[2], broken], [backups[2], backups[4]]):
        result = run("apply", "-db", target, *wrong)
        assert result.exit_code == 1, wrong
        assert "error:" in result.stderr
        assert target.read_bytes() == before
    assert not list(tmp_path.glob("*.tmp"))


def test_apply_finds_missing_growth_pages(history, tmp_path):
    """Without rolling checksums, the size says that pages are missing."""
    _, files, _, _ = history
    target = tmp_path / "o.db"
    assert run("apply", "-db", target, files[Encoding.BACKUP][0]).exit_code == 0
    result = run("apply", "-db", target, "--json", files[Encoding.BACKUP][2])
    assert result.exit_code == 1
    assert json.loads(result.stderr)["error"]["code"] == "LTX_INVALID"


def test_apply_refuses_an_open_database(history, tmp_path):
    database, files, _, _ = history
    connection = sqlite3.connect(database, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("DELETE FROM t")
    result = run("apply", "-db", database, files[Encoding.STREAM][0])
    assert result.exit_code == 1
    assert "DATABASE_IN_USE" in result.stderr
    assert run("checksum", database).exit_code == 1
    connection.close()
    assert run("checksum", database).exit_code == 0


def test_apply_refuses_another_page_size_and_files_that_are_no_database(history, tmp_path):
    _, files, _, _ = history
    other = tmp_path / "other.db"
    assert run("apply", "-db", other, GOLDEN / "ok" / "stream-512-1-snapshot.ltx").exit_code == 0
    assert other.stat().st_size == 3 * 512
    text = tmp_path / "text.db"
    text.write_bytes(b"not a database" * 100)
    for target in (other, text):
        assert run("apply", "-db", target, files[Encoding.STREAM][0]).exit_code == 1


def test_apply_a_deletion_leaves_an_empty_file(tmp_path):
    target = tmp_path / "o.db"
    names = ("1-snapshot", "2-delta", "3-grow", "4-shrink", "5-deletion")
    files = [GOLDEN / "ok" / f"stream-512-{name}.ltx" for name in names]
    # The pages of these files are no SQLite database, so all are applied in one go.
    applied = run_json("apply", "-db", target, *files)
    assert applied["page_count"] == 0
    assert applied["checksum"] == "8000000000000000"
    assert target.read_bytes() == b""


def test_apply_keeps_the_files_mode(history, tmp_path):
    _, files, _, _ = history
    target = tmp_path / "o.db"
    run("apply", "-db", target, files[Encoding.STREAM][0])
    assert target.stat().st_mode & 0o777 == 0o600
    target.chmod(0o640)
    run("apply", "-db", target, files[Encoding.STREAM][1])
    assert target.stat().st_mode & 0o777 == 0o640


def test_checksum_of_a_file(history):
    database, _, content, checksum = history
    facts = run_json("checksum", database)
    assert facts["normalised_checksum"] == f"{checksum:016x}"
    assert facts["checksum"] == f"{rolling_checksum(enumerate(pages_of(database), 1), PAGE_SIZE):016x}"
    assert facts["checksum"] != facts["normalised_checksum"]
    assert (facts["page_size"], facts["page_count"]) == (PAGE_SIZE, len(content) // PAGE_SIZE)
    assert f"{checksum:016x}" in run("checksum", database).stdout


def test_checksum_of_an_empty_and_a_torn_file(history, tmp_path):
    database, _, _, _ = history
    empty = tmp_path / "empty.db"
    empty.touch()
    assert run_json("checksum", empty)["checksum"] == "8000000000000000"
    torn = tmp_path / "torn.db"
    torn.write_bytes(database.read_bytes()[:-1])
    assert run("checksum", torn).exit_code == 1


def test_dump_shows_header_pages_and_trailer(history):
    _, files, _, _ = history
    path = files[Encoding.STREAM][1]
    file = decode_ltx(path.read_bytes())
    facts = run_json("dump", path)
    assert facts["min_txid"] == facts["max_txid"] == "0000000000000002"
    assert facts["timestamp_ms"] == 1_700_000_000_002
    assert facts["time"] == "2023-11-14T22:13:20.002+00:00"
    assert facts["post_apply_checksum"] == f"{file.trailer.post_apply_checksum:016x}"
    assert [page["pgno"] for page in facts["pages"]] == [number for number, _ in file.pages]
    text = run("dump", path).stdout
    assert facts["pages"][0]["checksum"] in text and facts["file_checksum"] in text


def test_list_has_a_line_for_each_file(history):
    _, files, _, _ = history
    rows = run_json("list", *files[Encoding.BACKUP])
    assert [row["max_txid"] for row in rows] == [f"{n:016x}" for n in range(1, 7)]
    assert [row["snapshot"] for row in rows] == [True] + [False] * 5
    assert not any(row["checksums"] or row["post_apply_checksum"] for row in rows)
    lines = run("list", *files[Encoding.STREAM]).stdout.strip().splitlines()
    assert len(lines) == 7
    assert rows[0]["pages"] is None


def test_verify_tells_good_from_broken(history, tmp_path):
    _, files, _, _ = history
    good = files[Encoding.STREAM]
    assert all(row["ok"] for row in run_json("verify", *good))
    torn = tmp_path / "torn.ltx"
    torn.write_bytes(good[0].read_bytes()[:-3])
    result = run("verify", "--json", good[0], torn)
    assert result.exit_code == 1
    rows = json.loads(result.stdout)
    assert [(row["ok"], row["code"]) for row in rows] == [(True, ""), (False, "LTX_TRUNCATED")]
    assert "ends inside the trailer" in run("verify", torn).stdout


@pytest.mark.parametrize(
    "path", sorted(GOLDEN.glob("*/*.ltx"))[::4], ids=lambda path: f"{path.parent.name}/{path.stem}"
)
def test_verify_golden_files(path):
    assert run("verify", path).exit_code == (0 if path.parent.name == "ok" else 1)


@pytest.mark.parametrize(
    "arguments", [("verify",), ("verify", "missing.ltx"), ("apply", "x.ltx"), ("dump",), ("list", "/"), ("nonsense",)]
)
def test_wrong_use_exits_with_two(arguments):
    assert run(*arguments).exit_code == 2
