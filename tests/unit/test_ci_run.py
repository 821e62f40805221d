"""`.ci/run` calls `make test`, ends with pytest's closing line, and fails when make fails."""

import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / ".ci" / "run"


@pytest.mark.parametrize(
    ("closing", "status"),
    [
        ("12 passed in 3.21s", 0),
        ("12 passed, 3 skipped, 7 deselected in 61.02s (0:01:01)", 0),
        ("===== 1 failed, 11 passed in 3.21s =====", 2),
        ("2 errors in 0.10s", 2),
    ],
)
def test_closing_line_and_status(tmp_path, closing, status):
    (tmp_path / ".ci").mkdir()
    shutil.copy(SCRIPT, tmp_path / ".ci" / "run")
    makefile = (
        f"test:\n\t@echo 'collected 12 items in 1s'\n\t@echo '{closing}'\n\t@echo 'after'\n\t@exit {int(status > 0)}\n"
    )
    (tmp_path / "Makefile").write_text(makefile)
    done = subprocess.run([str(tmp_path / ".ci" / "run")], capture_output=True, text=True, cwd="/")
    assert done.stdout.splitlines()[-1] == closing
    assert done.returncode == status


def test_lint_that_fails_says_that_no_tests_were_run(tmp_path):
    (tmp_path / ".ci").mkdir()
    shutil.copy(SCRIPT, tmp_path / ".ci" / "run")
    (tmp_path / "Makefile").write_text("test:\n\t@echo 'E501 Line too long'\n\t@exit 1\n")
    done = subprocess.run([str(tmp_path / ".ci" / "run")], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "no tests were run"
    assert done.returncode == 2
