"""Commands that documents tell people to run exist, with the options that are given there."""

import re

import pytest
from pages import DOCS, ROOT, command_functions, parameters

BLOCK = re.compile(r"^```sh[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
CALL = re.compile(r"(?:^|[\s;|&(=])pando((?: [^\s|;&()<>]+)*)", re.MULTILINE)
OPTION = re.compile(r"--?[a-z][a-z-]*")
COMMANDS = {name.removeprefix("pando "): function for name, function in command_functions().items()}
GROUPS = {name.split()[0] for name in COMMANDS if " " in name}


def calls(text):
    for block in BLOCK.findall(text):
        for line in re.sub(r'"[^"\n]*"', "TEXT", re.sub(r"\\\n", " ", block)).splitlines():
            yield from (found.split() for found in CALL.findall(line.split(" #")[0]))


def wrong(words):
    """What of a call there is not."""
    bare = words[0] in GROUPS and (len(words) == 1 or words[1].startswith("-"))
    name = " ".join(words[:2]) if words[0] in GROUPS and not bare else words[0]
    function = COMMANDS.get(f"{name} list" if bare else name)
    if function is None:
        return [name]
    known = {part for option in parameters(function) for text in option.names for part in text.split("/")}
    return [word for word in words if OPTION.fullmatch(word) and word not in known]


@pytest.mark.parametrize("path", [ROOT / "README.md", *sorted(DOCS.glob("*.md"))], ids=lambda path: path.name)
def test_commands_of_documents_exist(path):
    for words in calls(path.read_text()):
        assert not wrong(words), f"{path.name}: pando {' '.join(words)}"


def test_the_test_sees_the_commands_and_what_is_wrong_with_them():
    assert sum(len(list(calls(path.read_text()))) for path in (ROOT / "README.md", DOCS / "moving.md")) >= 20
    assert wrong(["databases", "--dir", "x"]) == []
    assert wrong(["serve", "--nothing"]) == ["--nothing"]
    assert wrong(["databases", "nothing"]) == ["databases nothing"]
