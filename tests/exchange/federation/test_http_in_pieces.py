"""Laws of reading an answer: how it is cut into pieces does not matter, and whatever it is, it is an answer or none."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from exchange.federation.http_answers import Address, Connection, HTTPAnswer, NoAnswerError

GOOD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"
BASES = [
    GOOD,
    GOOD + GOOD,
    b"HTTP/1.1 103 Early Hints\r\nlink: <a>\r\n\r\n" + GOOD,
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1;a=b\r\n{\r\n1\r\n}\r\n0\r\na: b\r\n\r\n",
    b'HTTP/1.1 304 Not Modified\r\netag: "a"\r\n\r\n',
    b"HTTP/1.1 429 Any\r\nretry-after: 7\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
    b"HTTP/1.0 200 OK\r\n\r\n{}",
]
MOST = 64
NOWHERE = Address(secure=False, host="localhost", port=1, short=False)


class Wire(asyncio.Transport):
    """A connection that takes everything and ends when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.ended = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        del data

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return self.ended

    def abort(self) -> None:
        self.ended = True


def spoilt(base: bytes, changes: Sequence[tuple[int, int, bytes]]) -> bytes:
    """With some bytes taken out, and others put in their place."""
    for place, out, new in changes:
        start = place % (len(base) + 1)
        base = base[:start] + new + base[start + out :]
    return base


def read(answer: bytes, cuts: Sequence[int]) -> tuple[HTTPAnswer | str, bool]:
    """What comes of it in these pieces, the connection ending after the last; and whether it would be used again."""

    async def go() -> tuple[HTTPAnswer | str, bool]:
        connection, wire = Connection(NOWHERE), Wire()
        connection.connection_made(wire)
        asking = asyncio.ensure_future(connection.ask(b"", MOST))
        await asyncio.sleep(0)
        places = [0, *sorted(cut % (len(answer) + 1) for cut in cuts), len(answer)]
        for start, end in pairwise(places):
            if start < end and not wire.ended:
                connection.data_received(answer[start:end])
        again = connection.reusable
        connection.connection_lost(None)
        try:
            return await asking, again
        except NoAnswerError as error:
            return error.code, False

    return asyncio.run(go())


CHANGES = st.lists(st.tuples(st.integers(0, 200), st.integers(0, 3), st.binary(max_size=4)), max_size=3)


@settings(max_examples=400)
@given(st.sampled_from(BASES), CHANGES, st.lists(st.integers(0, 300), max_size=6))
def test_how_it_is_cut_does_not_matter(base: bytes, changes: list[tuple[int, int, bytes]], cuts: list[int]) -> None:
    answer = spoilt(base, changes)
    (whole, again), (pieces, again_in_pieces) = read(answer, []), read(answer, cuts)
    assert pieces == whole
    # What is left over may still be on its way: a connection in pieces is never kept where a whole one would not be.
    assert again or not again_in_pieces


@settings(max_examples=200)
@given(st.binary(max_size=200), st.lists(st.integers(0, 300), max_size=3))
def test_any_bytes_are_an_answer_or_none(answer: bytes, cuts: list[int]) -> None:
    assert read(answer, cuts) == ("no-connection", False)


@settings(max_examples=200)
@given(st.sampled_from(BASES[:6]), st.integers(1, 200))
def test_an_answer_that_is_cut_off_is_none(base: bytes, kept: int) -> None:
    whole, _ = read(base, [])
    cut, _ = read(base[:kept], [])
    assert cut in (whole, "no-connection")
