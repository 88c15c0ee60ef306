"""The requests that the parser reads from each sample, however its bytes are cut."""

import random

import pytest
from wire.sample import CASES, describe, ways_to_cut

from gmproxy.protocol.text.requests import TextParser


@pytest.mark.parametrize("sample", CASES)
def test_requests(sample):
    for way, chunks in ways_to_cut(sample.said, random.Random(sample.name)):
        parser = TextParser(1024 * 1024)
        understood = []
        for chunk in chunks:
            parser.stream.feed(chunk)
            while (request := parser.next_request()) is not None:
                understood.append(describe(request))
        assert understood == sample.understood, way
        assert parser.stream.size() == 0, way
