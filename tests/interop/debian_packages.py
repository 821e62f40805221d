"""Programs of Debian packages, unpacked once into a cache folder without being installed; a test that needs one that
cannot be had is skipped.
"""

import functools
import shutil
import subprocess

import pytest
from client_packages import install

UNPACK = ["sh", "-c", 'for each in *.deb; do dpkg-deb -x "$each" . || exit 1; done']


@functools.cache
def find_debian_program(package, path):
    """Give the path of a program, the system's own if it has one, and the reason why there is none."""
    if found := shutil.which(path.rpartition("/")[2], path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin"):
        return found, ""
    folder, reason = install(f"debian/{package}", [["apt-get", "download", "-q", package], UNPACK])
    if folder is None:
        return None, reason
    program = (folder / path).absolute()
    done = subprocess.run([program, "-v"], capture_output=True, text=True, timeout=20)
    return (str(program), "") if done.returncode == 0 else (None, done.stderr.strip()[-200:])


def need_debian_program(package, path):
    program, reason = find_debian_program(package, path)
    if program is None:
        pytest.skip(f"{package} cannot be had: {reason}")
    return program
