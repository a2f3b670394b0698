"""Many askers, few calls: nobody waits who need not, nobody gets another's answer."""

import asyncio
from collections.abc import Sequence

import pytest

from db.coalescer import Coalescer, CoalescerFull
from tests.eventually import eventually


class Echo:
    """Answers each item with itself once `go_on` is set, and remembers the batches."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.go_on = asyncio.Event()
        self.problem: Exception | None = None

    async def __call__(self, items: Sequence[int]) -> Sequence[int]:
        self.batches.append(list(items))
        await self.go_on.wait()
        if self.problem is not None:
            raise self.problem
        return list(items)


def asked(coalescer: Coalescer[int, int], items: Sequence[int]) -> list[asyncio.Task[int]]:
    return [asyncio.create_task(coalescer.ask(item)) for item in items]


async def has_begun(echo: Echo) -> None:
    await eventually(lambda: echo.batches)


async def test_an_idle_one_runs_at_once() -> None:
    echo = Echo()
    echo.go_on.set()
    assert await Coalescer(echo, batch_max=8).ask(1) == 1
    assert echo.batches == [[1]]


async def test_who_comes_during_a_call_leaves_with_the_next() -> None:
    echo = Echo()
    coalescer: Coalescer[int, int] = Coalescer(echo, batch_max=100)
    first = asked(coalescer, [0])
    await has_begun(echo)
    others = asked(coalescer, range(1, 50))
    await asyncio.sleep(0)
    echo.go_on.set()
    assert await asyncio.gather(*first, *others) == list(range(50))
    assert echo.batches == [[0], list(range(1, 50))]
    assert (coalescer.batch_count, coalescer.item_count) == (2, 50)


async def test_no_batch_is_larger_than_allowed() -> None:
    echo = Echo()
    echo.go_on.set()
    coalescer: Coalescer[int, int] = Coalescer(echo, batch_max=4)
    assert await asyncio.gather(*asked(coalescer, range(10))) == list(range(10))
    assert echo.batches == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


async def test_a_full_one_says_so_at_once() -> None:
    echo = Echo()
    coalescer: Coalescer[int, int] = Coalescer(echo, batch_max=1, waiting_max=2)
    running = asked(coalescer, [0])
    await has_begun(echo)
    waiting = asked(coalescer, [1, 2])
    await asyncio.sleep(0)
    with pytest.raises(CoalescerFull):
        await coalescer.ask(3)
    echo.go_on.set()
    assert await asyncio.gather(*running, *waiting) == [0, 1, 2]


async def test_a_failure_is_told_to_its_batch_and_to_no_other() -> None:
    echo = Echo()
    echo.problem = ConnectionError("gone")
    coalescer: Coalescer[int, int] = Coalescer(echo, batch_max=2)
    unlucky = asked(coalescer, [0, 1])
    await has_begun(echo)
    echo.go_on.set()
    assert [type(answer) for answer in await asyncio.gather(*unlucky, return_exceptions=True)] == [ConnectionError] * 2
    echo.problem = None
    assert await coalescer.ask(2) == 2


async def test_who_gives_up_disturbs_nobody() -> None:
    echo = Echo()
    coalescer: Coalescer[int, int] = Coalescer(echo, batch_max=8)
    asking = asked(coalescer, [0, 1, 2])
    await has_begun(echo)
    asking[1].cancel()
    await asyncio.sleep(0)
    echo.go_on.set()
    assert await asking[0] == 0
    assert await asking[2] == 2
    assert asking[1].cancelled()


async def test_who_gives_up_before_the_call_is_not_waited_for() -> None:
    echo = Echo()
    coalescer: Coalescer[int, int] = Coalescer(echo, batch_max=1)
    running = asked(coalescer, [0])
    await has_begun(echo)
    impatient, patient = asked(coalescer, [1, 2])
    await asyncio.sleep(0)
    impatient.cancel()
    echo.go_on.set()
    assert await asyncio.gather(*running, patient) == [0, 2]


async def test_it_works_again_after_a_pause() -> None:
    echo = Echo()
    echo.go_on.set()
    coalescer: Coalescer[int, int] = Coalescer(echo, batch_max=8)
    for item in range(3):
        assert await coalescer.ask(item) == item
    assert coalescer.batch_count == 3
