"""Packages of the npm registry, for tests that run programs of node."""

import shutil
import subprocess

import pytest

#: Seconds for an installation. With a registry that cannot be reached npm gives up at once, or after this.
PATIENCE = 120

#: Nothing of a package runs during the installation, and nothing is written beside the packages.
OPTIONS = ("--ignore-scripts", "--no-audit", "--no-fund", "--no-package-lock", "--no-save", "--fetch-retries=0", "--loglevel=error")


def install(folder, *packages):
    """The folder node_modules with `packages`, such as "mocha@10", in the new `folder`. Skips the test if they cannot be installed."""
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
