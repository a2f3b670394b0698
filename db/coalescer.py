"""How do many askers share one round trip?

Adaptive, never a timer: while one call is under way, later askers gather; they leave together when it comes back. An idle
system pays no waiting, a busy one pays one call for a whole batch.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

Item = TypeVar("Item")
Answer = TypeVar("Answer")


class CoalescerFull(Exception):
    """More are waiting than the bound allows; the caller should say "busy"."""


class Coalescer(Generic[Item, Answer]):
    """Gathers items and gives them to `run` as one list; `run` answers each, in order.

    If `run` raises, every asker of that batch gets the exception. An asker that gives up does not disturb the others.
    """

    def __init__(
        self,
        run: Callable[[Sequence[Item]], Awaitable[Sequence[Answer]]],
        *,
        batch_max: int,
        waiting_max: int = 10_000,
    ) -> None:
        self._run = run
        self._batch_max = batch_max
        self._waiting_max = waiting_max
        self._waiting: list[tuple[Item, asyncio.Future[Answer] | None]] = []
        self._worker: asyncio.Task[None] | None = None
        self.batch_count = 0
        self.item_count = 0

    @property
    def is_idle(self) -> bool:
        """Whether nobody waits and nothing is under way."""
        return self._worker is None

    async def ask(self, item: Item) -> Answer:
        """The answer to this item; raises CoalescerFull at once when too many wait, or whatever `run` raised."""
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._add(item, answer)
        return await answer

    def add(self, item: Item) -> None:
        """Take this item along and answer nobody: for a `run` that tells its askers by itself. Raises CoalescerFull."""
        self._add(item, None)

    def _add(self, item: Item, answer: asyncio.Future[Answer] | None) -> None:
        if len(self._waiting) >= self._waiting_max:
            raise CoalescerFull(f"{self._waiting_max} are waiting already")
        self._waiting.append((item, answer))
        if self._worker is None:
            self._worker = asyncio.create_task(self._work())

    async def _work(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[: self._batch_max], self._waiting[self._batch_max :]
                await self._run_one(batch)
        finally:
            self._worker = None

    async def _run_one(self, batch: list[tuple[Item, asyncio.Future[Answer] | None]]) -> None:
        self.batch_count += 1
        self.item_count += len(batch)
        try:
            answers = await self._run([item for item, _ in batch])
        except Exception as problem:  # noqa: BLE001 -- it belongs to the askers, every one of whom gets it
            for _, waiting in batch:
                if waiting is not None and not waiting.done():
                    waiting.set_exception(problem)
            return
        except BaseException:
            for _, waiting in batch:
                if waiting is not None:
                    waiting.cancel()
            raise
        for (_, waiting), answer in zip(batch, answers, strict=True):
            if waiting is not None and not waiting.done():
                waiting.set_result(answer)
