"""Runs the command gmproxy: python -m gmproxy."""

import sys

from gmproxy.cli import main

sys.exit(main())
