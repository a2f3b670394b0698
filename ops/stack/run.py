"""How does the whole system run in one terminal, and leave nothing behind when it ends?"""

import signal
import time
from collections import defaultdict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import typer

from ops.stack.problem import StackProblem
from ops.stack.screen import console, note, problems_shown, show_where_everything_is, step
from ops.stack.stack import SERVERS, Stack
from ops.stack.up import ScaleOption, ScaleWords, asked_scale, make_ready_to_sell

LOOK_SECONDS = 0.5
RESTARTS_MAX = 5  # of one process within a minute; after that it is broken and restarting it hides why
RESTART_WINDOW_SECONDS = 60.0
ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Restarts:
    """Counts the restarts of one process, and says when they are too many."""

    def __init__(self) -> None:
        self._at: deque[float] = deque()

    def allow(self, now: float) -> bool:
        """One more restart is fine; `now` is in seconds of a clock that never goes back."""
        while self._at and now - self._at[0] >= RESTART_WINDOW_SECONDS:
            self._at.popleft()
        if len(self._at) >= RESTARTS_MAX:
            return False
        self._at.append(now)
        return True


def run(scale: ScaleOption = None, more: ScaleWords = None) -> None:
    """Start everything, watch it, and stop all of it on Ctrl-C."""
    with problems_shown():
        stack = Stack.from_environment(say=note)
        wanted = asked_scale(stack, scale, more)
        with _endings_interrupt():
            try:
                make_ready_to_sell(stack, wanted)
                show_where_everything_is(stack, foreground=True)
                watch(stack)
            except KeyboardInterrupt:
                console.print()
            finally:
                _stop_everything(stack)


def watch(stack: Stack) -> None:
    """Restart what ends by itself; returns when somebody has stopped the stack, raises StackProblem on a crash loop."""
    restarts: defaultdict[str, Restarts] = defaultdict(Restarts)
    # Looked at anew each time: another `boxoffice up --scale` may have changed who there is.
    while any(server.state != "stopped" for server in stack.status() if server.name not in SERVERS):
        for name in (*SERVERS, *stack.applications):
            if stack.ended_by_itself(name):
                _restart(stack, name, restarts[name])
        time.sleep(LOOK_SECONDS)
    console.print("The applications were stopped from elsewhere.")


def _restart(stack: Stack, name: str, history: Restarts) -> None:
    log = stack.log_file(name)
    if not history.allow(time.monotonic()):
        raise StackProblem(f"{name} ended more than {RESTARTS_MAX} times within a minute; its log is {log}")
    console.print(f"[yellow]! {name} ended by itself[/] [dim](its log is {log})[/]", soft_wrap=True)
    try:
        stack.mend(name)
    except StackProblem as problem:
        note(str(problem))  # the next look tries again, as often as is allowed


def _stop_everything(stack: Stack) -> None:
    for number in ENDINGS:
        signal.signal(number, signal.SIG_IGN)  # a second Ctrl-C must not leave half of it running
    stack.cancelled.clear()
    with step("stopped"):
        stack.down()


@contextmanager
def _endings_interrupt() -> Iterator[None]:
    """SIGTERM and a closed terminal end the run exactly as Ctrl-C does."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in ENDINGS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


if __name__ == "__main__":
    typer.run(run)
