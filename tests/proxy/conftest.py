"""Fixtures of these tests. Each file of four-column tests has its own `stage`: the proxy and the scripted servers."""

import resource

import pytest


@pytest.fixture(scope="module")
def many_descriptors():
    """This process is thousands of clients at the same time."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def talk(stage):
    """A client of the stage's proxy. At the end of the test no byte may be left over on either side of the proxy."""
    with stage.proxy.talk() as talk:
        yield talk
        talk.in_step()
    stage.check()
