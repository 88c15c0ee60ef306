"""Errors are one line that a user can act on."""

import pytest

from gmproxy import errors


def test_blame():
    for kind in (errors.ConfigError, errors.StartError, errors.BackendError):
        assert issubclass(kind, errors.GmproxyError)


@pytest.mark.parametrize("detail, shown", [("", "timeout"), ("no reply to stats", "timeout: no reply to stats")])
def test_a_backend_error_begins_with_its_reason(detail, shown):
    error = errors.BackendError(errors.TIMEOUT, detail)
    assert (str(error), error.reason, error.detail) == (shown, "timeout", detail)


def test_reasons_are_a_closed_list():
    assert errors.REASONS == ("connecting", "timeout", "closed", "reset", "protocol", "overload", "ejected", "login")
