"""Which of an event's records contradict each other, and who has the time to look?

A process of its own, below everybody else's priority: comparing a house's records keeps a processor busy for as long as a
sale must not wait for. It is given settings and then the ids of events, a line each, and answers each with a line; it ends
when nobody gives it any more, so it cannot outlive whoever began it.
"""

import asyncio
import json
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, NamedTuple, Self

import asyncpg

from consumers.proof.books import find_violations
from contracts.ids import EventId
from contracts.settings import Settings
from db.postgres import Pool, open_pool
from db.priority import give_way
from db.proof import UnknownEvent, read_books

# As low as mails and figures. Lower still, and while a house is being sold out it would never be its turn.
NICENESS = 15
# Of each invariant; when more is wrong, everything is, and a line stays readable.
DIFFERENCES_MAX = 1000
LINE_LENGTH_MAX = 16 * 1024 * 1024
SESSION = {
    # One connection, and no helpers for it: one processor at most is kept busy for this.
    "max_parallel_workers_per_gather": "0",
    # Below everybody's priority it may be a while until we get to the next question; meanwhile we lock nothing.
    "idle_in_transaction_session_timeout": "60s",
}


class Findings(NamedTuple):
    """By the name of the invariant, what contradicts it; and how long a processor was busy with finding that out."""

    violations: Mapping[str, Sequence[str]]
    processor_seconds: float


class NotExamined(Exception):
    """The event could not be looked at; the message says why."""


class Examiner:
    """The process, as whoever begins it sees it: begun with the first question, and again after it was ended."""

    def __init__(self, settings: Settings, *, seconds_max: float) -> None:
        """An event that takes longer than `seconds_max` is given up."""
        self._settings = settings
        self._seconds_max = seconds_max
        self._process: Process | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.end()

    async def examine(self, event_id: EventId) -> Findings:
        """What contradicts each other in its records. Raises NotExamined."""
        try:
            async with asyncio.timeout(self._seconds_max):
                answer = await self._ask(str(event_id))
        except TimeoutError:
            await self.end()
            raise NotExamined(f"it takes longer than {self._seconds_max:.0f} s") from None
        except BaseException:
            await self.end()  # an answer that comes late would be taken for that about the next event
            raise
        if "problem" in answer:
            raise NotExamined(answer["problem"])
        return Findings(**answer)

    async def end(self) -> None:
        """Nothing of it is left."""
        process, self._process = self._process, None
        if process is None:
            return
        with suppress(ProcessLookupError):
            process.kill()
        await process.communicate()

    async def _ask(self, line: str) -> dict[str, Any]:
        if self._process is None:
            self._process = await self._begun()
        assert self._process.stdin is not None  # noqa: S101 -- it has pipes
        assert self._process.stdout is not None  # noqa: S101
        self._process.stdin.write(f"{line}\n".encode())
        answer = await self._process.stdout.readline()
        if not answer:
            raise NotExamined("the examiner ended")
        found: dict[str, Any] = json.loads(answer)
        return found

    async def _begun(self) -> Process:
        # In a session of its own: then the system's priority is its own, and Ctrl-C is not meant for it.
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "consumers.examiner"),
            stdin=PIPE,
            stdout=PIPE,
            limit=LINE_LENGTH_MAX,
            start_new_session=True,
        )
        assert process.stdin is not None  # noqa: S101
        process.stdin.write(f"{self._settings.model_dump_json()}\n".encode())
        return process


# ---- in the process itself


async def answer_questions(settings: Settings) -> None:
    """A line for a line, until there are no more."""
    async with await open_pool(settings, application_name="verifier examines", size=1, planner=SESSION) as pool:
        busy_before = 0.0
        while line := await asyncio.to_thread(sys.stdin.readline):
            answer = await _answer(pool, EventId(line.strip()))
            # Since the answer before, so that beginning and clearing up are somebody's, too.
            busy = time.process_time()
            print(json.dumps(answer | {"processor_seconds": busy - busy_before}), flush=True)
            busy_before = busy


async def _answer(pool: Pool, event_id: EventId) -> dict[str, Any]:
    try:
        books = await read_books(pool, event_id)
    except (UnknownEvent, asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as problem:
        return {"problem": f"{type(problem).__name__}: {problem}"}
    violations = {name: found[:DIFFERENCES_MAX] for name, found in find_violations(books).items()}
    return {"violations": violations}


def main() -> None:
    """Begin with the settings that are given on the first line."""
    give_way(NICENESS)
    asyncio.run(answer_questions(Settings.model_validate_json(sys.stdin.readline())))


if __name__ == "__main__":
    main()
