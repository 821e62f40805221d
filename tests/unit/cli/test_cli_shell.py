import io

import pytest

from pando.cli.client import Client
from pando.cli.output import console
from pando.cli.render import Mode, format_rows
from pando.cli.shell import Shell
from pando.cli.statements import split_commands
from pando.cli.wire import decode_rows, read_rows
from pando.errors import CallerError, SqlError


class Typed:
    """What somebody types, line by line; remembers the prompts."""

    def __init__(self, *lines):
        self._lines = iter(lines)
        self.prompts = []

    def __call__(self, prompt):
        self.prompts.append(prompt)
        line = next(self._lines, None)
        if line is KeyboardInterrupt:
            raise KeyboardInterrupt
        return line


@pytest.fixture
def out():
    return io.StringIO()


@pytest.fixture
def shell(server, out):
    with Client(server.url) as client:
        yield Shell(client, mode=Mode.LIST, out=console(out))


def test_a_statement_over_several_lines(shell, out):
    typed = Typed("SELECT 1,", "", "  2; SELECT", "3;")
    shell.loop(typed)
    assert out.getvalue() == "1|2\n3\n"
    assert typed.prompts == ["data> ", "   ...> ", "   ...> ", "   ...> ", "data> "]


def test_an_error_goes_to_standard_error_and_the_next_statement_runs(shell, out, capsys):
    shell.loop(Typed("SELECT * FROM missing;", "SELECT 1;", ".quit", "SELECT 2;"))
    assert out.getvalue() == "1\n"
    assert "error: no such table: missing [SQLITE_ERROR]" in capsys.readouterr().err


def test_interrupt_forgets_the_statement_that_was_begun(shell, out):
    shell.loop(Typed("SELECT 1 +", KeyboardInterrupt, "SELECT 5;"))
    assert out.getvalue() == "5\n"


def test_a_transaction_stays_open_and_the_prompt_shows_it(shell, server):
    typed = Typed("CREATE TABLE t (a);", "BEGIN;", "INSERT INTO t VALUES (1);")
    shell.loop(typed)
    assert typed.prompts[-1] == "data*> "
    shell.close()
    assert server.db.execute("SELECT count(*) FROM t").fetchone() == (0,)


def test_tables_and_schema(shell, out):
    lines = ["CREATE TABLE b (x);", "CREATE VIEW a AS SELECT 1;", ".tables", ".schema b", ".tables a%"]
    shell.loop(Typed(*lines))
    assert out.getvalue() == "a\nb\nCREATE TABLE b (x);\na\n"


def test_databases_and_use(shell, server, out):
    server.routes["GET", "/cluster/databases"] = {"databases": ["data", "other"]}
    shell.loop(Typed(".databases", ".use other", "SELECT 1;"))
    assert [line.strip() for line in out.getvalue().splitlines()] == ["database", "data", "other", "1"]
    assert server.requests[-1][3]["x-namespace"] == "other"


def test_modes(shell, out):
    select = "SELECT 1 AS a, NULL AS b, x'00ff' AS c, 'x,\"y' AS a;"
    shell.loop(Typed(*[line for mode in ("csv", "json", "line", "list") for line in (f".mode {mode}", select)]))
    assert out.getvalue() == (
        'a,b,c,a\n1,,x\'00ff\',"x,""y"\n'
        '[{"a":1,"b":null,"c":"AP8=","a_2":"x,\\"y"}]\n'
        "a = 1\nb = \nc = x'00ff'\na = x,\"y\n"
        "1||x'00ff'|x,\"y\n"
    )


def test_table_mode_is_not_folded_without_a_terminal(server, out):
    with Client(server.url) as client:
        Shell(client, mode=Mode.TABLE, out=console(out)).run_script(f"SELECT '{'x' * 300}' AS long, 1 AS n")
    assert out.getvalue().splitlines()[1].split() == ["x" * 300, "1"]


def test_a_script_runs_many_statements_in_one_request(shell, server, out):
    shell.run_script("CREATE TABLE t (a);" + "INSERT INTO t VALUES (1);" * 150 + "SELECT count(*) FROM t")
    assert out.getvalue() == "150\n"
    assert len(server.requests) == 1


def test_a_long_script_is_cut_and_a_transaction_spans_the_requests(shell, server, out):
    inserts = "INSERT INTO t VALUES (1);" * 450
    shell.run_script(f"CREATE TABLE t (a); BEGIN; {inserts} COMMIT; SELECT count(*) FROM t;")
    assert out.getvalue() == "450\n"
    assert len(server.requests) == 3


def test_a_script_stops_at_the_first_failure_and_names_the_statement(shell, out):
    with pytest.raises(SqlError, match=r"no such table: missing in: SELECT \* FROM missing"):
        shell.run_script("SELECT 1; SELECT * FROM missing; SELECT 3;")
    assert out.getvalue() == "1\n"


def test_read_runs_a_file(shell, out, tmp_path):
    (tmp_path / "a.sql").write_text("SELECT 4;\nSELECT 5")
    shell.run_line(f".read {tmp_path / 'a.sql'}")
    assert out.getvalue() == "4\n5\n"


@pytest.mark.parametrize("line", [".nothing", ".mode nothing", ".read /does/not/exist"])
def test_wrong_dot_commands_are_refused(shell, line):
    with pytest.raises(CallerError):
        shell.run_line(line)


# -- scripts with dot commands, and what a newcomer types


def test_a_script_may_hold_dot_commands(shell, out):
    shell.run_script(
        ".mode csv\nCREATE TABLE t (a); INSERT INTO t VALUES (1), (2);\n.tables\nSELECT a FROM t;\n.schema t\n"
    )
    assert out.getvalue() == "t\na\n1\n2\nCREATE TABLE t (a);\n"


def test_a_line_with_a_dot_within_a_string_is_no_command(shell, out):
    shell.run_script("SELECT '\n.tables\n' AS a;\n/*\n.nothing\n*/ SELECT 2;\n.quit\nSELECT 3;")
    assert out.getvalue() == "\n.tables\n\n2\n"


def test_many_lines_with_dots_take_no_longer_than_others():
    text = "INSERT INTO t VALUES ('\n.a\n');\n" * 5000
    assert list(split_commands(text)) == [text]


def test_a_file_that_reads_itself_ends(shell, tmp_path):
    (tmp_path / "a.sql").write_text(f".read {tmp_path / 'a.sql'}")
    with pytest.raises(CallerError, match="deep"):
        shell.run_line(f".read {tmp_path / 'a.sql'}")


def test_a_file_that_is_no_text_is_refused(shell, tmp_path):
    (tmp_path / "a.db").write_bytes(b"SQLite format 3\x00\xff")
    with pytest.raises(CallerError, match="`pando import`"):
        shell.run_line(f".read {tmp_path / 'a.db'}")


def test_sql_that_is_no_text_is_refused(shell):
    with pytest.raises(CallerError, match="UTF-8"):
        shell.run_script("SELECT '\udcff'")


def test_a_database_that_is_not_there_leaves_the_shell_where_it_was(shell, server, out, capsys):
    typed = Typed("SELECT 1;", ".use missing", ".use", "SELECT 2;")

    def refuse(prompt):
        line = typed(prompt)
        if line == ".use missing":
            server.fail_next.append((404, {}, b'{"error": "there is none", "code": "UNKNOWN_DATABASE"}'))
        return line

    shell.loop(refuse)
    assert set(typed.prompts) == {"data> "}
    assert out.getvalue() == "1\n2\n"
    assert "there is none [UNKNOWN_DATABASE]" in capsys.readouterr().err


def test_interrupt_of_what_runs_leaves_the_shell(server, out, capsys):
    class Interrupted(Client):
        def pipeline(self, payload, *, database=""):
            if "slow" in str(payload):
                raise KeyboardInterrupt
            return super().pipeline(payload, database=database)

    with Interrupted(server.url) as client:
        shell = Shell(client, mode=Mode.LIST, out=console(out))
        typed = Typed("SELECT 'slow'; SELECT 1;", "SELECT 2;", "BEGIN;", "SELECT 'slow';", "SELECT 3;")
        shell.loop(typed)
    assert out.getvalue() == "2\n3\n"
    said = capsys.readouterr().err.splitlines()
    assert said == [
        "interrupted: if it was a write, it may have taken effect or not",
        "interrupted: the transaction cannot be gone on with; it is rolled back unless this was its COMMIT",
    ]
    assert typed.prompts[3:5] == ["data*> ", "data> "]


@pytest.mark.parametrize(("mode", "shown"), [("list", "±Inf"), ("json", '[{"a":null}]')])
def test_an_infinite_number_is_not_shown_as_another(mode, shown):
    rows = read_rows(decode_rows(b'{"cols": [{"name": "a"}], "rows": [[{"type": "float", "value": null}]]}'))
    assert format_rows(rows, Mode(mode)) == shown + "\n"
