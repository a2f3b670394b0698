"""What arrives at five thousand people who watch a sale, and when?

`python -m ops.bench.listeners`: a program of its own, because it must not share its time with whoever makes the changes. It
opens many streams of one event. Of a sample of them it reads every frame at once and notes when it came; the others are
emptied once in a while and their bytes counted, because a client that wakes for every frame, five thousand times over, would
take the cores that are to be measured. What has come in is with the client's kernel either way.

It makes the file `connected` when every stream has been answered; told to end, or when its time is over, it writes
`overheard.json` beside it.
"""

import argparse
import errno
import json
import re
import resource
import select
import signal
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

# Streams opened per second: people arrive, they do not appear.
RAMP_PER_SECOND = 1000
# A first answer may wait for the event to be loaded.
ANSWER_SECONDS_MAX = 30.0
# How often a stream outside the sample is emptied. The kernel keeps far more than what comes in meanwhile.
EMPTY_SECONDS = 1.0

READ_BYTES = 256 * 1024
# How long we wait for a frame of the sample before we look after the others.
POLL_SECONDS = 0.01
# Of ours, beside the streams.
FILES_BESIDE = 100

CONNECTED, OVERHEARD = "connected", "overheard.json"

# What a frame's id ends with: the last sequence number in it.
NUMBER = re.compile(rb"(\d+)\D*$")


class NotServed(Exception):
    """A stream was answered with something else than a stream."""


class Frame(NamedTuple):
    """A frame of a stream: its type (`message` without one) and the sequence number in its id, if it has one."""

    type: str
    last_seq: int | None


@dataclass(frozen=True)
class Arrival:
    """A frame that came to one listener of the sample, at that time of the system's clock."""

    listener: int
    at: float
    type: str
    last_seq: int | None


@dataclass(frozen=True)
class Overheard:
    """All that was heard, bytes without the sample's."""

    listener_count: int
    sample_count: int
    quiet_bytes: int
    # Streams that ended before we did.
    lost_count: int
    arrivals: Sequence[Arrival]


class StreamReader:
    """The frames in what one connection receives, chunked or not."""

    def __init__(self) -> None:
        self._raw, self._text = b"", b""
        self._is_chunked: bool | None = None

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that have become complete; raises NotServed when this is no stream."""
        self._raw += data
        if self._is_chunked is None and not self._read_head():
            return []
        self._text += self._unwrapped()
        *texts, self._text = self._text.replace(b"\r\n", b"\n").split(b"\n\n")
        return [frame for frame in map(_frame_of, texts) if frame is not None]

    @property
    def has_begun(self) -> bool:
        """It was answered with a stream."""
        return self._is_chunked is not None

    def _read_head(self) -> bool:
        head, end, rest = self._raw.partition(b"\r\n\r\n")
        if not end:
            return False
        if b" 200 " not in head.split(b"\r\n", 1)[0] + b" ":
            raise NotServed((head + b" " + rest).decode(errors="replace")[:500])
        self._is_chunked, self._raw = b"transfer-encoding: chunked" in head.lower(), rest
        return True

    def _unwrapped(self) -> bytes:
        if not self._is_chunked:
            whole, self._raw = self._raw, b""
            return whole
        return b"".join(self._chunks())

    def _chunks(self) -> Iterator[bytes]:
        while True:
            line, end, rest = self._raw.partition(b"\r\n")
            if not end:
                return
            size = int(line.split(b";")[0], 16)
            if len(rest) < size + 2:
                return
            yield rest[:size]
            self._raw = rest[size + 2 :]


def _frame_of(text: bytes) -> Frame | None:
    """What a frame says of itself; None for a comment (a heartbeat)."""
    fields = dict(_field_of(line) for line in text.split(b"\n") if line and not line.startswith(b":"))
    if not fields.keys() & {b"data", b"id", b"event"}:
        return None
    number = NUMBER.search(fields.get(b"id", b""))
    return Frame(fields.get(b"event", b"message").decode(), int(number[1]) if number else None)


def _field_of(line: bytes) -> tuple[bytes, bytes]:
    name, _, value = line.partition(b":")
    return name, value.removeprefix(b" ")


class Listeners:
    """Open streams: a sample that is read frame by frame, and the quiet rest."""

    def __init__(self, sample_count: int) -> None:
        self._sample_count = sample_count
        self._poll = select.epoll()
        self._sample: dict[int, tuple[int, socket.socket, StreamReader]] = {}
        self._quiet: list[socket.socket] = []
        self._emptied_count = 0
        self._quiet_bytes = 0
        self._lost_count = 0
        self._is_over = False
        self._arrivals: list[Arrival] = []

    def open(self, url: str, path: str, *, count: int) -> None:
        """Open so many streams and wait until each is answered; raises NotServed, OSError."""
        parts = urlsplit(url)
        request = f"GET {path} HTTP/1.1\r\nHost: {parts.netloc}\r\nAccept: text/event-stream\r\n\r\n".encode()
        begun_at = time.monotonic()
        unanswered: list[tuple[socket.socket, StreamReader]] = []
        for number in range(count):
            time.sleep(max(0.0, begun_at + number / RAMP_PER_SECOND - time.monotonic()))
            stream = socket.create_connection((parts.hostname or "", parts.port or 80), timeout=ANSWER_SECONDS_MAX)
            stream.sendall(request)
            unanswered.append((stream, StreamReader()))
        for number, (stream, reader) in enumerate(unanswered):
            self._admit(number, stream, reader)

    def _admit(self, number: int, stream: socket.socket, reader: StreamReader) -> None:
        # Its beginning is read with patience; from then on nobody waits for one stream alone.
        while not reader.has_begun:
            data = stream.recv(READ_BYTES)
            if not data:
                raise NotServed("the connection was closed without an answer")
            frames = reader.feed(data)
            if number < self._sample_count:
                self._note(number, frames)
        stream.setblocking(False)
        if number < self._sample_count:
            self._sample[stream.fileno()] = (number, stream, reader)
            self._poll.register(stream.fileno(), select.EPOLLIN)
        else:
            self._quiet.append(stream)

    def listen(self, seconds: float) -> None:
        """Read what comes in, for so long or until we are told to end."""
        begun_at = time.monotonic()
        while (passed := time.monotonic() - begun_at) < seconds and not self._is_over:
            self._read_sample(POLL_SECONDS)
            self._empty_until(round(passed / EMPTY_SECONDS * len(self._quiet)))
        # What has come in by now still counts.
        self._read_sample(0)
        self._empty_until(self._emptied_count + len(self._quiet))

    def end(self) -> None:
        """Let `listen` return."""
        self._is_over = True

    def overheard(self) -> Overheard:
        """All that was heard."""
        return Overheard(
            listener_count=len(self._sample) + len(self._quiet) + self._lost_count,
            sample_count=self._sample_count,
            quiet_bytes=self._quiet_bytes,
            lost_count=self._lost_count,
            arrivals=self._arrivals,
        )

    def _read_sample(self, wait_seconds: float) -> None:
        for file, _ in self._poll.poll(wait_seconds):
            self._read(file)

    def _read(self, file: int) -> None:
        number, stream, reader = self._sample[file]
        data = _received(stream)
        if data == b"":
            self._poll.unregister(file)
            del self._sample[file]
            self._lost_count += 1
        elif data:
            self._note(number, reader.feed(data))

    def _note(self, number: int, frames: Sequence[Frame]) -> None:
        now = time.time()
        self._arrivals += [Arrival(number, now, frame.type, frame.last_seq) for frame in frames]

    def _empty_until(self, count: int) -> None:
        """Empty streams in turn until so many have been since we began."""
        while self._emptied_count < count and self._quiet:
            place = self._emptied_count % len(self._quiet)
            data = _received(self._quiet[place])
            if data == b"":
                self._quiet[place].close()
                del self._quiet[place]
                self._lost_count += 1
            self._quiet_bytes += len(data or b"")
            self._emptied_count += 1


def _received(stream: socket.socket) -> bytes | None:
    """What has come in; None when nothing has, empty when the stream has ended."""
    try:
        return stream.recv(READ_BYTES)
    except BlockingIOError:
        return None
    except ConnectionError:
        return b""


def raise_file_limit(count: int) -> None:
    """Let this process have so many files open; raises OSError when the machine does not."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = count + FILES_BESIDE
    if needed > hard != resource.RLIM_INFINITY:
        raise OSError(errno.EMFILE, f"{needed} open files are needed and {hard} allowed: raise ulimit -Hn")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, needed), hard))


def read_overheard(folder: Path) -> Overheard:
    """What `main` has written there."""
    written = json.loads((folder / OVERHEARD).read_text())
    return Overheard(**{**written, "arrivals": [Arrival(**arrival) for arrival in written["arrivals"]]})


def main(words: Sequence[str]) -> None:
    """Listen, and write down what was heard."""
    told = _parser().parse_args(words)
    raise_file_limit(told.count)
    listeners = Listeners(sample_count=min(told.sample, told.count))
    signal.signal(signal.SIGTERM, lambda *_: listeners.end())
    try:
        listeners.open(told.url, told.path, count=told.count)
    except (NotServed, OSError) as problem:
        sys.exit(f"a stream was not opened: {problem}")
    (told.folder / CONNECTED).touch()
    listeners.listen(told.seconds_max)
    (told.folder / OVERHEARD).write_text(json.dumps(asdict(listeners.overheard())))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m ops.bench.listeners")
    parser.add_argument("--url", required=True)
    parser.add_argument("--path", required=True)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--sample", type=int, required=True, help="streams of which every frame is read at once")
    parser.add_argument("--seconds-max", type=float, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    return parser


if __name__ == "__main__":
    main(sys.argv[1:])
