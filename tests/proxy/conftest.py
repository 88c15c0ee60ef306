"""What the four-column tests share. Each file has a `stage` of its own: the proxy and the backends it plays."""

import pytest


@pytest.fixture
def talk(stage):
    """A client of the stage's proxy; at the end nothing may be left over on either side of the proxy."""
    with stage.proxy.talk() as talk:
        yield talk
        talk.in_step()
    stage.check()
