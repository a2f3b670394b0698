"""`python -m ingress`: HTTP in, command out, reply back."""

import os
import sys
from functools import partial

from sanic import Sanic
from sanic.worker.loader import AppLoader

from contracts.settings import Settings, UnusableSettings
from ingress.app import create_process
from ingress.shared_metrics import folder_for_workers
from ingress.starting_workers import end_while_starting
from ingress.strict_http import StrictProtocol

# Connections the kernel holds for us while the loop is busy; a sale opens with thousands at once.
LISTEN_BACKLOG = 4096


def main() -> None:
    """Serve until told to stop."""
    try:
        settings = Settings.read(os.environ)
    except UnusableSettings as problem:
        sys.exit(str(problem))
    if settings.ingress_workers == 1:
        # No manager process: one thing fewer that can die.
        _prepare(create_process(settings), settings, single_process=True)
        Sanic.serve_single()
        return
    # Each worker is a fresh interpreter that is handed this factory, settings and all: it reads no environment.
    loader = AppLoader(factory=partial(create_process, settings))
    app = loader.load()
    _prepare(app, settings, single_process=False)
    end_while_starting()
    with folder_for_workers(os.environ):
        Sanic.serve(primary=app, app_loader=loader)


def _prepare(app: Sanic, settings: Settings, *, single_process: bool) -> None:  # type: ignore[type-arg]
    app.prepare(
        host=settings.http_host,
        port=settings.http_port,
        workers=settings.ingress_workers,
        single_process=single_process,
        protocol=StrictProtocol,
        backlog=LISTEN_BACKLOG,
        access_log=False,
        motd=False,
    )


if __name__ == "__main__":
    main()
