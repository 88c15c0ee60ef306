"""Modules that several tests use; tests/README.md lists them."""
