"""The commands of gmproxyctl."""
