"""Clients of other parties, installed once into a cache folder; a test that needs one that cannot be had is skipped."""

import contextlib
import functools
import hashlib
import os
import shutil
import subprocess
import sys

import pytest
from gotools import cache_folder

INSTALL_TIMEOUT_S = 240


def attempt(command, folder):
    """Run a command that installs into a folder; gives the reason when it fails."""
    try:
        result = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{command[0]}: {type(error).__name__}"
    return result.stderr.strip()[-200:] or "no reason given" if result.returncode else ""


def install(name, commands):
    """Give a folder in which the commands succeeded, now or earlier, and the reason why there is none."""
    folder = cache_folder() / name
    if folder.exists():
        return folder, ""
    unfinished = folder.with_name(f"{folder.name}.{os.getpid()}")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    reason = next((reason for command in commands if (reason := attempt(command, unfinished))), "")
    put(unfinished, folder, reason)
    return (None if reason else folder), reason


def put(unfinished, folder, reason):
    """Let what was installed be found, unless something failed or another process was first."""
    if not reason:
        with contextlib.suppress(OSError):
            unfinished.rename(folder)
    shutil.rmtree(unfinished, ignore_errors=True)


@functools.cache
def find_npm_package(name, version):
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        return None, "node and npm are not on PATH"
    spec = f"{name}@{version}"
    command = [npm, "install", "--prefix", ".", "--ignore-scripts", "--no-audit", "--no-fund", spec]
    return install(f"npm/{name.replace('/', '-').removeprefix('@')}-{version}", [command])


def need_npm_package(name, version):
    """Give the folder of an npm package, with what it needs beside it."""
    folder, reason = find_npm_package(name, version)
    if folder is None:
        pytest.skip(f"{name} {version} cannot be installed: {reason}")
    return folder / "node_modules" / name


@functools.cache
def find_pypi_package(name, version):
    python = "Scripts/python.exe" if os.name == "nt" else "bin/python"
    commands = [
        [sys.executable, "-m", "venv", "venv"],
        [f"venv/{python}", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", f"{name}=={version}"],
    ]
    folder, reason = install(f"pypi/{name}-{version}", commands)
    return (folder and folder / "venv" / python), reason


def need_pypi_package(name, version):
    """Give the Python of an environment that has the package."""
    python, reason = find_pypi_package(name, version)
    if python is None:
        pytest.skip(f"{name} {version} cannot be installed: {reason}")
    return python


@functools.cache
def find_go_program(source):
    go = shutil.which("go")
    if go is None:
        return None, "go is not on PATH"
    content = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(source.iterdir()))).hexdigest()
    folder = cache_folder() / "go" / f"{source.name}-{content[:16]}"
    if folder.exists():
        return folder / source.name, ""
    unfinished = folder.with_name(f"{folder.name}.{os.getpid()}")
    unfinished.mkdir(parents=True, exist_ok=True)
    output = unfinished.absolute() / source.name
    reason = attempt([go, "build", "-buildvcs=false", "-o", str(output), "."], source)
    put(unfinished, folder, reason)
    return (None if reason else folder / source.name), reason


def need_go_program(source):
    """Give the program that a folder with a Go module builds."""
    program, reason = find_go_program(source)
    if program is None:
        pytest.skip(f"{source.name} cannot be built: {reason}")
    return program
