"""What several tests use; tests/README.md lists the modules."""
