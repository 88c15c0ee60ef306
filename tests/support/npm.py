"""Packages of the npm registry, for tests that run node programs."""

import shutil
import subprocess

import pytest

#: Timeout of an installation, seconds: npm may wait for a registry that cannot be reached.
PATIENCE = 120

#: Scripts of packages are not run during the installation, and only packages are written.
OPTIONS = ("--ignore-scripts", "--no-audit", "--no-fund", "--no-package-lock", "--no-save", "--fetch-retries=0", "--loglevel=error")


def install(folder, *packages):
    """Install `packages`, such as "mocha@10", in the new `folder`, and return its node_modules. Skips the test if they cannot be installed."""
    for program in ("node", "npm"):
        if not shutil.which(program):
            pytest.skip(f"{program} is not installed")
    folder.mkdir()
    try:
        done = subprocess.run(["npm", "install", *OPTIONS, "--prefix", folder, *packages], capture_output=True, text=True, timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        pytest.skip(f"npm did not install {' '.join(packages)} within {PATIENCE} s")
    if done.returncode:
        pytest.skip(f"npm did not install {' '.join(packages)}: {done.stderr.strip().splitlines()[:1]}")
    return folder / "node_modules"
