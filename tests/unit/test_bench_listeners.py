"""Do five thousand listeners hear what was said, when it was said, and which changes came with it?"""

import asyncio
import signal
import sys
from pathlib import Path

import pytest

from ops.bench.listeners import CONNECTED, Arrival, Frame, NotServed, Overheard, StreamReader, read_overheard
from ops.bench.watching import watched
from ops.stack.server import REPOSITORY
from tests.eventually import eventually
from tests.tiny_server import a_server

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"
CHUNKED_HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
STREAM = b'retry: 2000\n\nevent: resync\ndata: {"version": 7}\n\n:\n\nid: 9\nevent: seats\ndata: {}\n\n'
FRAMES = [Frame("resync", None), Frame("seats", 9)]


def in_pieces(data: bytes, size: int) -> list[bytes]:
    return [data[first : first + size] for first in range(0, len(data), size)]


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_frames_are_read_however_the_bytes_arrive(size: int) -> None:
    reader = StreamReader()
    assert [frame for piece in in_pieces(HEAD + STREAM, size) for frame in reader.feed(piece)] == FRAMES


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_frames_are_read_across_chunks(size: int) -> None:
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in in_pieces(STREAM, 11))
    reader = StreamReader()
    assert [frame for piece in in_pieces(CHUNKED_HEAD + chunks, size) for frame in reader.feed(piece)] == FRAMES


def test_an_answer_that_is_no_stream_says_what_it_was() -> None:
    with pytest.raises(NotServed, match=r"503 Service Unavailable.*too_many_streams"):
        StreamReader().feed(b'HTTP/1.1 503 Service Unavailable\r\n\r\n{"code": "too_many_streams"}')


def overheard(*arrivals: Arrival, sample_count: int = 1) -> Overheard:
    greetings = [Arrival(number, 0.0, "resync", None) for number in range(sample_count)]
    return Overheard(5_000, sample_count, quiet_bytes=0, lost_count=0, arrivals=[*greetings, *arrivals])


def test_every_change_in_a_frame_has_waited_since_its_own_beginning() -> None:
    heard = overheard(Arrival(0, 10.0, "seats", 4), Arrival(0, 11.0, "seats", 6))
    seen = watched(heard, {5: 10.5, 6: 10.9})
    assert list(seen.lags_ms) == pytest.approx([500, 100])
    assert (seen.missed_count, seen.resync_count, seen.frames_each) == (0, 0, 1)


def test_changes_before_and_after_the_window_are_not_counted() -> None:
    heard = overheard(Arrival(0, 10.0, "seats", 4), Arrival(0, 11.0, "seats", 7), Arrival(0, 12.0, "seats", 8))
    assert list(watched(heard, {6: 10.9}).lags_ms) == pytest.approx([100])


def test_what_only_one_listener_heard_was_missed_by_the_other() -> None:
    heard = overheard(
        Arrival(0, 10.0, "seats", 4), Arrival(0, 11.0, "seats", 5), Arrival(1, 10.0, "seats", 4), sample_count=2
    )
    assert watched(heard, {5: 10.5}).missed_count == 1


def test_what_a_resync_jumped_over_was_missed() -> None:
    heard = overheard(Arrival(0, 10.0, "seats", 4), Arrival(0, 10.1, "resync", None), Arrival(0, 11.0, "seats", 6))
    seen = watched(heard, {5: 10.5, 6: 10.9})
    assert (len(seen.lags_ms), seen.missed_count, seen.resync_count) == (1, 1, 1)


async def start_listeners(url: str, folder: Path, *, count: int, sample: int) -> asyncio.subprocess.Process:
    words = ("--url", url, "--path", "/stream", "--count", str(count), "--sample", str(sample))
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "ops.bench.listeners", *words, "--seconds-max", "60", "--folder", str(folder)),
        cwd=REPOSITORY,
        stderr=asyncio.subprocess.PIPE,
    )


async def test_the_program_hears_every_frame_of_its_sample_and_counts_the_bytes_of_the_others(tmp_path: Path) -> None:
    open_streams: list[asyncio.StreamWriter] = []
    frame = b"id: 3\nevent: seats\ndata: {}\n\n"

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(HEAD)
        open_streams.append(writer)
        await asyncio.Event().wait()

    async with a_server(serve) as url:
        program = await start_listeners(url, tmp_path, count=40, sample=10)
        await eventually((tmp_path / CONNECTED).exists, within_seconds=30)
        for writer in open_streams:
            writer.write(frame)
        program.send_signal(signal.SIGTERM)
        await program.communicate()
    heard = read_overheard(tmp_path)
    assert (heard.listener_count, heard.sample_count, heard.lost_count) == (40, 10, 0)
    assert heard.quiet_bytes == 30 * len(frame)
    assert sorted(arrival.listener for arrival in heard.arrivals) == list(range(10))
    assert {(arrival.type, arrival.last_seq) for arrival in heard.arrivals} == {("seats", 3)}


async def test_a_stream_that_is_refused_ends_the_program_with_the_reason(tmp_path: Path) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 429 Too Many Requests\r\ncontent-length: 0\r\n\r\n")
        await writer.drain()

    async with a_server(refuse) as url:
        program = await start_listeners(url, tmp_path, count=1, sample=1)
        _, said = await program.communicate()
    assert program.returncode == 1
    assert b"429 Too Many Requests" in said
    assert not (tmp_path / CONNECTED).exists()
