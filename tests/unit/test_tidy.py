"""Rules of the house that no linter knows: sizes, where clock, chance and durable writes live, who may import whom.

Each exception is listed here with its reason, and a list may only shrink: an entry that is no longer needed fails too.
"""

import ast
import re
from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "pando"
TESTS = ROOT / "tests"

FILE_LINES_MAX = 600
FUNCTION_LINES_MAX = 70

LONG_FILES: dict[str, str] = {}
LONG_FUNCTIONS: dict[str, str] = {}
BROAD_EXCEPTS = 6
"""Handlers of Exception, BaseException or everything that do not raise again. May only go down."""
MODULES_WITHOUT_TEST: dict[str, str] = {
    "__main__": "one line, run by the tests of the commands",
}
PACKAGES_WITHOUT_DESIGN: dict[str, str] = {}
IMPORTS_AGAINST_THE_GRAIN: dict[str, str] = {}
BANNED_WORDS_ALLOWED: dict[str, str] = {}

PURE = (
    "ltx",
    "wal",
    "replication",
    "cluster",
    "sql.messages",
    "types",
    "errors",
    "limits",
    "store.requests",
    "store.protocol",
)
IMPURE_MODULES = {
    *("os", "socket", "select", "asyncio", "threading", "multiprocessing", "subprocess"),
    *(
        "time",
        "secrets",
        "uuid",
        "sqlite3",
        "apsw",
        "sqlean",
        "aiohttp",
        "uvicorn",
        "uvloop",
        "http",
        "urllib",
    ),
}
CLOCK = {"time", "random", "secrets"}
CLOCK_HOMES = {"clock"}
DURABLE = {"os.replace", "os.rename", "os.renames", "os.fsync", "os.fdatasync", "os.link"}
DURABLE_HOMES = {"store.files"}
WALL_CLOCK_METHODS = {"now", "utcnow", "today"}


@dataclass(frozen=True)
class Module:
    """A source file, parsed once."""

    name: str
    path: Path
    text: str
    tree: ast.Module

    @property
    def package(self):
        return self.name.split(".")[0]


def read(path, base):
    relative = path.relative_to(base).with_suffix("")
    parts = [part for part in relative.parts if part != "__init__"]
    text = path.read_text()
    return Module(".".join(parts), path, text, ast.parse(text, str(path)))


@cache
def sources():
    return [read(path, SOURCE) for path in sorted(SOURCE.rglob("*.py"))]


@cache
def checks():
    return [read(path, TESTS) for path in sorted(TESTS.rglob("*.py"))]


def compare(found, allowed, what):
    """Fails for what is found and not allowed, and for what is allowed and no longer found."""
    new = {key: value for key, value in found.items() if key not in allowed}
    assert not new, f"{what}: " + "; ".join(f"{key}: {value}" for key, value in sorted(new.items()))
    gone = sorted(set(allowed) - set(found))
    assert not gone, f"no longer needed in the list of exceptions, take it out: {gone}"


# -- sizes ------------------------------------------------------------------------------------------------------------


def test_files_are_short():
    found = {
        str(module.path.relative_to(ROOT)): f"{lines} lines"
        for module in [*sources(), *checks()]
        if (lines := module.text.count("\n")) > FILE_LINES_MAX
    }
    compare(found, LONG_FILES, f"over {FILE_LINES_MAX} lines")


def function_lines(node):
    lines = node.end_lineno - node.lineno + 1
    first = node.body[0]
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
        lines -= first.end_lineno - first.lineno + 1
    return lines


def functions(tree, prefix=""):
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            name = f"{prefix}.{node.name}".lstrip(".")
            if not isinstance(node, ast.ClassDef):
                yield name, node
            yield from functions(node, name)
        else:
            yield from functions(node, prefix)


def test_functions_are_short():
    found = {
        f"{module.name}.{name}": f"{lines} lines"
        for module in [*sources(), *checks()]
        for name, node in functions(module.tree)
        if (lines := function_lines(node)) > FUNCTION_LINES_MAX
    }
    compare(found, LONG_FUNCTIONS, f"over {FUNCTION_LINES_MAX} lines without docstring")


# -- what may be called where -----------------------------------------------------------------------------------------


def dotted(node):
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        base = dotted(node.value)
        return f"{base}.{node.attr}" if base else ""
    return ""


def aliases(tree):
    """What each name of the file stands for, by its imports (`import time as t` makes t stand for time)."""
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.asname or alias.name.split(".")[0]: alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return names


def uses(tree):
    """Every dotted name that the file uses, with its imports resolved, and the line."""
    known = aliases(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute | ast.Name):
            name = dotted(node)
            head, dot, rest = name.partition(".")
            if head in known:
                yield f"{known[head]}{dot}{rest}", node.lineno


def places(module, line):
    return f"{module.path.relative_to(ROOT)}:{line}"


def test_clock_and_chance_come_from_one_module():
    found = [
        f"{places(module, line)} {name}"
        for module in sources()
        if module.name not in CLOCK_HOMES
        for name, line in uses(module.tree)
        if (name.split(".")[0] in CLOCK and "." in name and name != "random.Random")
        or name in ("uuid.uuid1", "uuid.uuid4", "asyncio.sleep.__wrapped__")
        or (name.startswith("datetime.") and name.split(".")[-1] in WALL_CLOCK_METHODS)
        or name in ("os.urandom", "os.getrandom")
    ]
    assert not found, f"take a Clock or a random.Random (pando.clock): {found}"


def test_durable_writes_live_in_one_module():
    found = [
        f"{places(module, line)} {name}"
        for module in sources()
        if module.name not in DURABLE_HOMES
        for name, line in uses(module.tree)
        if name in DURABLE
    ]
    assert not found, f"durable writes live in pando.store.files: {found}"


def test_queues_have_a_bound():
    found = [
        places(module, node.lineno)
        for module in sources()
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call)
        and dotted(node.func).split(".")[-1] in ("Queue", "LifoQueue", "PriorityQueue", "SimpleQueue")
        and not node.args
        and not node.keywords
    ]
    assert not found, f"a queue without a bound (pando.limits): {found}"


def is_broad(handler):
    caught = handler.type
    names = (
        [dotted(item) for item in caught.elts] if isinstance(caught, ast.Tuple) else [dotted(caught)] if caught else []
    )
    is_wide = caught is None or bool({"Exception", "BaseException"} & set(names))
    last = handler.body[-1]
    return is_wide and not (isinstance(last, ast.Raise) and last.exc is None)


def test_broad_handlers_only_become_fewer():
    found = [
        places(module, node.lineno)
        for module in sources()
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ExceptHandler) and is_broad(node)
    ]
    assert len(found) <= BROAD_EXCEPTS, f"catch what you expect: {found}"
    assert len(found) == BROAD_EXCEPTS, f"fewer than before, well done: set BROAD_EXCEPTS to {len(found)}"


# -- who may import whom ----------------------------------------------------------------------------------------------


@cache
def layers():
    """The rank of each package and module of words, as docs/architecture.md has it."""
    text = (ROOT / "docs" / "architecture.md").read_text()
    section = re.search(r"^## Layers\n(.*?)(?=^## )", text, re.MULTILINE | re.DOTALL).group(1)
    order = section.split("`testing`")[0].split("->")
    ranks = {
        name: rank
        for rank, part in enumerate(order)
        for names in re.findall(r"`([^`]+)`", part)
        for name in names.split()
    }
    assert (
        ranks["types"]
        < ranks["ltx"]
        < ranks["replication"]
        < ranks["store"]
        < ranks["sql"]
        < ranks["api"]
        < ranks["cli"]
    )
    return ranks


def imports(module):
    """Every module of Pando that this one imports, at any depth, with the line; a relative import counts too."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                own = ["pando", *module.name.split(".")]
                is_package = module.path.name == "__init__.py"
                kept = own[: len(own) - node.level + is_package]
                base = ".".join([*kept, *([node.module] if node.module else [])])
            yield base, node.lineno
            if base == "pando":
                yield from ((f"pando.{alias.name}", node.lineno) for alias in node.names)


def test_every_package_has_a_layer():
    unknown = {module.package for module in sources()} - set(layers()) - {"testing", "__main__", ""}
    assert not unknown, f"name these in the section Layers of docs/architecture.md: {sorted(unknown)}"


def test_imports_go_one_way():
    ranks = layers()
    found = {}
    for module in sources():
        if module.package in ("testing", "__main__", ""):
            continue
        for name, line in imports(module):
            head = name.split(".")[1:2]
            if not name.startswith("pando.") or not head:
                continue
            other = head[0]
            if other == "testing" or ranks.get(other, 0) > ranks[module.package]:
                found[f"{module.name} -> {name}"] = f"line {line}"
    compare(found, IMPORTS_AGAINST_THE_GRAIN, "against the layers of docs/architecture.md")


def in_type_checking(tree):
    return {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and dotted(node.test).endswith("TYPE_CHECKING")
        for inner in ast.walk(node)
    }


def test_pure_packages_do_no_io():
    found = []
    for module in sources():
        if not any(module.name == name or module.name.startswith(f"{name}.") for name in PURE):
            continue
        typing_only = in_type_checking(module.tree)
        for node in ast.walk(module.tree):
            if id(node) in typing_only:
                continue
            if isinstance(node, ast.Call) and dotted(node.func) == "open":
                found.append(f"{places(module, node.lineno)} open()")
            names = {name.split(".")[0] for name in imported_names(node)}
            found += [f"{places(module, node.lineno)} {name}" for name in names & IMPURE_MODULES]
    assert not found, f"formats and decisions take bytes and values, not files and clocks: {found}"


# -- documents and tests that must be there ---------------------------------------------------------------------------


def has_content(module):
    return any(not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)) for node in module.tree.body)


def test_every_package_has_a_design():
    packages = {module.package for module in sources() if "." in module.name and has_content(module)}
    missing = {name: "no DESIGN.md" for name in packages if not (SOURCE / name / "DESIGN.md").is_file()}
    compare(missing, PACKAGES_WITHOUT_DESIGN, "a package says in DESIGN.md what it is for and what it gave up")


def is_named(name, text):
    """In backquotes, in a row of names that is code, or by `beginning_*`."""
    stems = re.findall(r"`([a-z_]+)\*`", text)
    return bool(re.search(rf"(?<![\w.]){name}(?!\w)", text)) or any(name.startswith(stem) for stem in stems)


def test_every_module_is_in_the_design_of_its_package():
    """Folders inside a package are named as such."""
    texts = {folder.name: "".join(page.read_text() for page in folder.glob("*.md")) for folder in SOURCE.iterdir()}
    missing = [
        module.name
        for module in sources()
        if "." in module.name and module.path.name != "__init__.py"
        if not is_named(module.name.split(".")[1], texts[module.package])
    ]
    assert not missing, f"say in DESIGN.md what they are for: {missing}"


def test_modules_that_docstrings_name_exist():
    known = {f"pando.{module.name}".rstrip("."): module.text for module in sources()}
    gone = [
        f"{places(module, module.text.count(chr(10), 0, match.start()) + 1)} {name}"
        for module in sources()
        for match in re.finditer(r"`(pando(?:\.\w+)+)`", module.text)
        if (name := match.group(1)) not in known
        and name.rpartition(".")[2] not in known.get(name.rpartition(".")[0], "")
    ]
    assert not gone, f"docstrings name what is not there: {gone}"


def names_in(module):
    return {name for node in ast.walk(module.tree) for name in imported_names(node)}


def handed_on(names):
    """Where names come from that tests import through a package's __init__."""
    for module in sources():
        if module.path.name == "__init__.py":
            for node in module.tree.body:
                given = {f"pando.{module.name}.{name.rpartition('.')[2]}" for name in imported_names(node)}
                if given & names:
                    yield from imported_names(node)


@cache
def covered_by_tests():
    """Modules that tests import, and parts of the same package that those are made of."""
    found = {name for module in checks() for name in names_in(module)}
    found |= set(handed_on(found))
    parts = {f"pando.{module.name}": {name for name, _ in imports(module)} | names_in(module) for module in sources()}
    waiting = [name for name in found if name in parts]
    while waiting:
        package = (name := waiting.pop()).split(".")[1]
        new = {part for part in parts[name] if part in parts and part.split(".")[1] == package} - found
        found |= new
        waiting += new
    return found


def is_mirrored(module):
    """A file tests/unit/<package>/test_*<module>*.py counts too: a package may be tested through its facade."""
    folder = TESTS.joinpath("unit", *module.name.split(".")[:-1])
    return any(folder.glob(f"test_*{module.path.stem}*.py"))


def test_every_module_has_a_test():
    missing = {
        module.name: "no test imports it, nor what it is part of, nor is a test named after it"
        for module in sources()
        if module.path.name != "__init__.py" and has_content(module)
        if f"pando.{module.name}" not in covered_by_tests() and not is_mirrored(module)
    }
    compare(missing, MODULES_WITHOUT_TEST, "untested")


def test_names_of_test_files_are_unique():
    """Test folders are no packages, so two files of one name would be one module."""
    counts = Counter(module.path.name for module in checks() if module.path.name.startswith("test_"))
    assert not [name for name, count in counts.items() if count > 1]


# -- habits of tests --------------------------------------------------------------------------------------------------


def is_zero(call):
    return bool(call.args) and isinstance(call.args[0], ast.Constant) and call.args[0].value == 0


def waiting_loops(tree):
    """Nodes inside functions called wait_...: they look again and again, until a deadline."""
    return {
        id(inner)
        for name, node in functions(tree)
        if name.split(".")[-1].startswith("wait_")
        for inner in ast.walk(node)
    }


def test_tests_do_not_sleep():
    found = []
    for module in checks():
        allowed = waiting_loops(module.tree)
        found += [
            places(module, node.lineno)
            for node in ast.walk(module.tree)
            if isinstance(node, ast.Call)
            and dotted(node.func).split(".")[-1] in ("sleep", "sleep_blocking")
            and id(node) not in allowed
            and not is_zero(node)
        ]
    assert not found, f"wait for the event (wait_until with a deadline), or move a virtual clock: {found}"


def imported_names(node):
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.module and not node.level:
        return [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return []


def test_tests_use_fakes_not_patches():
    found = [
        places(module, node.lineno)
        for module in checks()
        for node in ast.walk(module.tree)
        if (isinstance(node, ast.ImportFrom) and node.module in ("unittest.mock", "mock"))
        or (
            isinstance(node, ast.ImportFrom) and node.module == "unittest" and any(a.name == "mock" for a in node.names)
        )
        or (isinstance(node, ast.Import) and any(alias.name in ("mock", "unittest.mock") for alias in node.names))
    ]
    assert not found, f"write a fake, or pass the thing in: {found}"


# -- words ------------------------------------------------------------------------------------------------------------

OTHER_WORDS = re.compile(r"(?<![\w.\-/])(master|slave|follower|leader)s?(?![\w\-])", re.IGNORECASE)


def test_one_word_per_thing():
    found = {
        f"{path.relative_to(ROOT)}: {match.group()}": f"line {text.count(chr(10), 0, match.start()) + 1}"
        for path in sorted([*SOURCE.rglob("*.py"), *SOURCE.rglob("*.md")])
        for text in [path.read_text()]
        for match in OTHER_WORDS.finditer(text)
    }
    compare(found, BANNED_WORDS_ALLOWED, "say primary and replica (docs/glossary.md)")


# -- the rules themselves ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("import time as t\nt.monotonic()", "time.monotonic"),
        ("from os import replace\nreplace('a', 'b')", "os.replace"),
        ("import os\ndef f():\n    os.fsync(1)", "os.fsync"),
        ("from datetime import datetime\ndatetime.now()", "datetime.datetime.now"),
    ],
)
def test_uses_are_found_behind_other_names(text, expected):
    assert expected in [name for name, _ in uses(ast.parse(text))]


def test_a_list_of_exceptions_may_only_shrink():
    compare({"a": "1"}, {"a": "reason"}, "x")
    with pytest.raises(AssertionError, match="x: b: 2"):
        compare({"a": "1", "b": "2"}, {"a": "reason"}, "x")
    with pytest.raises(AssertionError, match="take it out"):
        compare({}, {"a": "reason"}, "x")


def test_imports_are_found_inside_functions_and_relative_ones_too():
    text = "def f():\n    from pando.cli import main\n    from . import other\n    from ..api import app"
    module = Module("store.writer", SOURCE / "store" / "writer.py", text, ast.parse(text))
    assert [name for name, _ in imports(module)] == ["pando.cli", "pando.store", "pando.api"]


def test_lines_of_a_docstring_do_not_count():
    tree = ast.parse('def f():\n    """a\n    b"""\n    return 1')
    assert function_lines(tree.body[0]) == 2
