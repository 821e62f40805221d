"""The pages that are made from the code are what the code makes."""

import re

import pytest
from pages import BRANCHES, DOCS, PAGES, ROOT, command_functions, error_classes, parameters

from pando import errors

LINK = re.compile(r"\]\(([^)#\s]+?)(?:#([^)\s]+))?\)")


@pytest.mark.parametrize("name", PAGES)
def test_page_is_up_to_date(name):
    assert (DOCS / name).read_text() == PAGES[name](), "run `make docs`"


def test_every_error_has_a_code_of_its_own_a_status_and_somebody_who_acts():
    kinds = list(error_classes())
    assert len(kinds) > 20
    by_code = {}
    for kind in kinds:
        assert 400 <= kind.status < 600
        assert any(issubclass(kind, branch) for branch in BRANCHES)
        by_code.setdefault(kind.code, []).append(kind)
    shared = {code: found for code, found in by_code.items() if len(found) > 1}
    assert shared == {"INVALID_REQUEST": [errors.CallerError, errors.InvalidRequest]}


def test_every_command_is_documented():
    text = (DOCS / "cli.md").read_text()
    for name, function in command_functions().items():
        assert f"## {name}\n" in text
        for parameter in parameters(function):
            assert parameter.help
            assert all(f"`{name}" in text for name in parameter.names if not parameter.is_argument)


def documents():
    return [
        ROOT / "README.md",
        ROOT / "CHANGELOG.md",
        *sorted(DOCS.rglob("*.md")),
        *sorted((ROOT / "src").rglob("*.md")),
    ]


@pytest.mark.parametrize("path", documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path):
    for target, anchor in LINK.findall(path.read_text()):
        if "://" in target:
            continue
        found = (path.parent / target).resolve()
        assert found.exists(), f"{path.name} links to {target}"
        if anchor:
            lines = found.read_text().splitlines()
            headings = [re.sub(r"[^\w\- ]", "", line.lstrip("# ").lower()).replace(" ", "-") for line in lines]
            assert anchor in headings, f"{path.name} links to {target}#{anchor}"


def test_every_page_is_in_the_index():
    index = (DOCS / "index.md").read_text()
    pages = {path.name for path in DOCS.glob("*.md") if not path.name.startswith("formats-")} - {"index.md"}
    assert [name for name in pages if f"({name})" not in index] == []


def test_every_format_is_in_its_index():
    index = (DOCS / "formats.md").read_text()
    assert [path.name for path in DOCS.glob("formats-*.md") if f"({path.name})" not in index] == []


def test_every_direct_dependency_has_a_reason():
    text = (DOCS / "dependencies.md").read_text()
    names = requirements(extras=True)
    assert len(names) > 15
    assert [name for name in names if f"| `{name}` |" not in text] == []


def test_locks_name_no_index_and_pin_every_requirement():
    for name in ("requirements.lock", "requirements-test.lock"):
        text = (ROOT / name).read_text()
        assert "://" not in text and "--index" not in text and "--find-links" not in text
        pinned = {canonical(found) for found in re.findall(r"^([\w.-]+)==[\w.]+", text, re.MULTILINE)}
        assert {canonical(found) for found in requirements(extras=name != "requirements.lock")} <= pinned


def canonical(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def requirements(*, extras):
    text = (ROOT / "pyproject.toml").read_text()
    main, _, optional = text.partition("[project.optional-dependencies]")
    return re.findall(r'"([A-Za-z0-9_.-]+)>=', main + optional if extras else main)


def test_nothing_says_where_it_was_made():
    words = re.compile("/" + r"work/|/opt/|/root/|/tmp/bash")
    files = [*documents(), ROOT / "Makefile", ROOT / ".ci" / "run", *sorted((ROOT / "src").rglob("*.py"))]
    assert [str(path) for path in files if words.search(path.read_text())] == []


def test_modules_and_paths_that_documents_name_exist():
    """`pando.store.protocol`, `pando.types.Bookmark`: the longest part that is a module must be one."""
    for path in documents():
        for name in re.findall(r"`pando((?:\.[A-Za-z_]+)+)`", path.read_text()):
            parts = name.strip(".").split(".")
            base = ROOT / "src" / "pando"
            found = base.joinpath(*parts).with_suffix(".py").is_file() or base.joinpath(*parts).is_dir()
            owner = base.joinpath(*parts[:-1])
            defined = owner.with_suffix(".py") if owner != base else base / "__init__.py"
            assert found or (defined.is_file() and parts[-1] in defined.read_text()), f"{path.name}: pando{name}"
