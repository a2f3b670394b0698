"""What has this worker counted by the way, without knowing of metrics?

The gate, the live seats, the bus and the waiting room keep numbers for themselves; they are read when somebody asks, so that
a request pays nothing for being counted.
"""

import asyncio
import os
from functools import cache
from typing import Self

from db.telemetry.readings import READINGS, Growth
from ingress.resources import IngressResources
from ingress.shared_metrics import ProcessFigures, are_shared, forget_dead_workers, forget_worker

GATE_REQUESTS = READINGS.counter("boxoffice_gate_requests_total", "Requests asked about at the gate")
GATE_BATCHES = READINGS.counter("boxoffice_gate_batches_total", "Round trips to Redis that they took")
EARLY_REFUSALS = READINGS.counter("boxoffice_early_refusals_total", "Reservations refused by a live view")
SEAT_STREAMS = READINGS.gauge("boxoffice_seat_streams", "Seat streams that are open")
SEAT_VIEWS = READINGS.gauge("boxoffice_seat_views", "Events whose seats are followed, by each worker for itself")
EARLY_POLLS = READINGS.counter(
    "boxoffice_queue_early_polls_total", "Positions asked for too soon, answered from memory"
)
RECKONED_POLLS = READINGS.counter("boxoffice_queue_reckoned_polls_total", "Positions reckoned from the snapshot")
ROOM_STREAMS = READINGS.gauge("boxoffice_queue_streams", "Streams of the heads of lines that are open")
ASKS_WAITING = READINGS.gauge("boxoffice_asks_waiting", "Commands whose reply somebody waits for")

READ_SECONDS = 1.0


class WorkerFigures:
    """The figures of one worker's resources. Open it with `WorkerFigures.open(resources)`."""

    def __init__(self, resources: IngressResources) -> None:
        self._resources = resources
        coalescer = resources.gate.coalescer
        views, positions = resources.seat_views, resources.room_desk.positions
        self._growths = (
            Growth(GATE_REQUESTS, lambda: coalescer.item_count),
            Growth(GATE_BATCHES, lambda: coalescer.batch_count),
            Growth(EARLY_REFUSALS, lambda: views.early_refusal_count),
            Growth(EARLY_POLLS, lambda: positions.early_count),
            Growth(RECKONED_POLLS, lambda: positions.reckoned_count),
        )
        self._reading: asyncio.Task[None] | None = None

    @classmethod
    def open(cls, resources: IngressResources) -> Self:
        """Have them read from now on: before each scrape and, where several workers answer for each other, often."""
        figures = cls(resources)
        READINGS.often(figures._read)
        if are_shared():
            READINGS.often(_process_figures().read)
            figures._reading = asyncio.create_task(_read_often(), name="figures read")
        return figures

    async def close(self) -> None:
        """Read them for the last time; what this worker has open counts no more."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
            READINGS.take()
            forget_worker(os.getpid())
        READINGS.no_more(self._read)

    def _read(self) -> None:
        for growth in self._growths:
            growth.take()
        resources = self._resources
        SEAT_STREAMS.set(resources.seat_views.places.taken_count)
        SEAT_VIEWS.set(resources.seat_views.event_count)
        ROOM_STREAMS.set(resources.room_desk.streams.count)
        ASKS_WAITING.set(resources.command_bus.waiting_count)


@cache
def _process_figures() -> ProcessFigures:
    return ProcessFigures()


async def _read_often() -> None:
    while True:
        READINGS.take()
        forget_dead_workers()
        await asyncio.sleep(READ_SECONDS)
