"""What did the servers and applications of a stack write?"""

import time
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from ops.stack.screen import console, problems_shown
from ops.stack.stack import SERVERS, Stack

POLL_SECONDS = 0.2
TAIL_BYTES = 1 << 20  # as much of a log's end as we look through for its last lines


def logs(
    name: Annotated[str | None, typer.Argument(help="One server or application; without it, all of them.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on showing what is written.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="The last lines of each.")] = 20,
) -> None:
    """Show the last lines of the logs."""
    with problems_shown():
        stack = Stack.from_environment()
        names = [name] if name else [*SERVERS, *stack.applications]
        files = {each: stack.log_file(each) for each in names}
        ends = {each: _show_tail(each, file, line_count=lines) for each, file in files.items()}
        if follow:
            try:
                _follow(files, ends)
            except KeyboardInterrupt:
                return


def _show_tail(name: str, file: Path, *, line_count: int) -> int:
    """Show the last lines; returns the offset at which they end."""
    if not file.exists():
        return 0
    with file.open("rb") as log:
        size = log.seek(0, 2)
        log.seek(max(0, size - TAIL_BYTES))
        text = log.read(size - log.tell())
    if line_count:
        _show(name, text.decode(errors="replace").splitlines()[-line_count:])
    return size


def _follow(files: dict[str, Path], ends: dict[str, int]) -> None:
    while True:
        for name, file in files.items():
            if not file.exists():
                continue
            ends[name] = min(ends[name], file.stat().st_size)  # a new file under the old name begins at its start
            with file.open("rb") as log:
                log.seek(ends[name])
                fresh = log.read()
            whole = fresh[: fresh.rfind(b"\n") + 1]  # a line that is being written is shown when it is complete
            ends[name] += len(whole)
            _show(name, whole.decode(errors="replace").splitlines())
        time.sleep(POLL_SECONDS)


def _show(name: str, lines: Iterable[str]) -> None:
    for line in lines:
        console.print(f"[cyan]{name:>13}[/] {escape(line)}", soft_wrap=True)
