"""Programs that use Pando can be checked: every call and what it gives has a type."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("typed_program.py")
WRONG = """
from pando import Pando

async def main() -> None:
    posts = Pando("data").collection("posts")
    page = await posts.list(filtre="x")
    number: int = await posts.first("x")
    await posts.create(3)
"""


def check(path, cache):
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(cache), str(path)]
    environment = {**os.environ, "MYPYPATH": str(Path(__file__).parents[3] / "src")}
    return subprocess.run(command, cwd=path.parent, env=environment, capture_output=True, text=True, timeout=280).stdout


@pytest.mark.full
def test_a_program_is_checked(tmp_path):
    assert "Success" in check(PROGRAM, tmp_path / "cache")
    wrong = tmp_path / "wrong.py"
    wrong.write_text(WRONG)
    found = check(wrong, tmp_path / "cache")
    assert "filtre" in found and '"int"' in found and '"create"' in found and "Found 3 errors" in found
