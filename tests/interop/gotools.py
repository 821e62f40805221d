"""Other people's programs, built once by `go install` into a cache folder; a test that needs one that cannot be had
is skipped.
"""

import functools
import os
import shutil
import subprocess
from pathlib import Path

import pytest

MODULES = {
    "ltx": "github.com/superfly/ltx/cmd/ltx",
    "litestream": "github.com/benbjohnson/litestream/cmd/litestream",
}
INSTALL_TIMEOUT_S = 840


def cache_folder():
    home = os.environ.get("XDG_CACHE_HOME")
    return Path(home) / "pando" if home else Path(__file__).parents[2] / ".cache"


@functools.cache
def find_tool(name, version):
    """Give the path of the program, or the reason why there is none."""
    folder = cache_folder() / "go" / f"{name}-{version}"
    program = folder / name
    if program.exists():
        return program, ""
    go = shutil.which("go")
    if go is None:
        return None, "go is not on PATH"
    environment = {**os.environ, "GOBIN": str(folder.absolute()), "CGO_ENABLED": "0"}
    command = [go, "install", f"{MODULES[name]}@{version}"]
    try:
        result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        return None, f"installing {name} {version} took too long"
    if result.returncode or not program.exists():
        return None, f"{name} {version} cannot be installed: {result.stderr.strip()[-200:]}"
    return program, ""


def need_tool(name, version):
    program, reason = find_tool(name, version)
    if program is None:
        pytest.skip(reason)
    return program


def run(program, *arguments, check=True, **options):
    result = subprocess.run([str(program), *map(str, arguments)], capture_output=True, text=True, timeout=60, **options)
    assert not check or result.returncode == 0, f"{program} {arguments}: {result.stdout}{result.stderr}"
    return result
