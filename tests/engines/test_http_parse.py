from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefkit.engines.http_parse import Broken, Reading, Reply, TooMuch

WHOLE = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nRetry-After: 3\r\n\r\nhello"
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nhel\r\n2;a=b\r\nlo\r\n0\r\nX: y\r\n\r\n"
PLAIN_CHUNKED = CHUNKED.replace(b"X: y\r\n", b"")
EARLY = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + WHOLE
NOTHING = b"HTTP/1.1 204 No Content\r\n\r\n"


def read(data: bytes, *cuts: int, most: int = 100) -> Reply | None:
    """Return what a reading makes of data that comes in pieces."""
    reading, edges = Reading(most), [0, *sorted(cuts), len(data)]
    found = None
    for start, stop in pairwise(edges):
        assert found is None, "it was whole before all of it came"
        found = reading.feed(data[start:stop])
    return found


@given(st.sampled_from([WHOLE, CHUNKED, PLAIN_CHUNKED, EARLY]), st.data())
def test_a_reply_is_the_same_however_it_is_cut(data, draw):
    cuts = draw.draw(st.lists(st.integers(0, len(data) - 1), max_size=8))
    reply = read(data, *cuts)
    assert (reply.status, reply.body, reply.is_last) == (200, b"hello", False)


@given(st.sampled_from([WHOLE, CHUNKED, PLAIN_CHUNKED, EARLY]), st.data())
def test_a_part_of_a_reply_is_none(data, draw):
    reading = Reading()
    assert reading.feed(data[: draw.draw(st.integers(0, len(data) - 1))]) is None
    with pytest.raises(Broken, match="was cut"):
        reading.end()


@given(st.binary(max_size=300), st.booleans())
def test_no_bytes_do_more_than_break_it(data, behind_a_head):
    reading = Reading(100)
    try:
        reading.feed(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + data if behind_a_head else data
        )
        reading.end()
    except Broken:
        pass


def test_headers_are_read_by_name_in_any_case():
    assert read(WHOLE).headers == {"content-length": "5", "retry-after": "3"}
    assert read(NOTHING) == Reply(204, {}, b"", False)


def test_a_reply_without_a_length_ends_with_its_connection():
    reading = Reading()
    assert reading.feed(b"HTTP/1.1 200 OK\r\n\r\nhel") is None
    assert reading.feed(b"lo") is None
    assert reading.end() == Reply(200, {}, b"hello", True)


@pytest.mark.parametrize(
    ("data", "is_last"),
    [
        (WHOLE, False),
        (WHOLE + b"more", True),
        (WHOLE.replace(b"Retry-After: 3", b"Connection: close"), True),
        (WHOLE.replace(b"1.1", b"1.0"), True),
        (WHOLE.replace(b"1.1", b"1.0").replace(b"Retry-After: 3", b"Connection: keep-alive"), False),
        (CHUNKED.replace(b"200 OK\r\n", b"200 OK\r\nContent-Length: 5\r\n"), True),
        (CHUNKED + b"HTTP/1.1", True),
    ],
)
def test_a_connection_is_used_again_only_where_nothing_can_be_left_on_it(data, is_last):
    assert read(data) == (200, read(data).headers, b"hello", is_last)


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 101\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 101,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n65\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"2\r\nab\r\n" * 51,
    ],
)
def test_what_is_larger_than_allowed_is_refused(data):
    with pytest.raises(TooMuch, match="larger than 100 bytes"):
        read(data)
    assert read(WHOLE, most=5).body == b"hello"


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0\r\n\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 999 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1e3\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: ²\r\n\r\n".encode("latin-1"),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 17,
        b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 20_000,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1" * 70_000,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + b"A: b\r\n" * 20_000,
    ],
)
def test_what_is_no_reply_breaks_it(data):
    with pytest.raises(Broken):
        read(data)
