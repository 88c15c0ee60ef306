"""Three memcached servers for all tests of a file: each test has keys of its own."""

from contextlib import ExitStack

import pytest
from support.servers import Memcached


@pytest.fixture(scope="module")
def servers():
    with ExitStack() as stack:
        yield [stack.enter_context(Memcached()) for _ in range(3)]
