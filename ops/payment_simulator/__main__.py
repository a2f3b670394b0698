"""Run the payment simulator: `python -m ops.payment_simulator --port 8408 --log payments.jsonl`."""

import argparse
import logging
import socket
from pathlib import Path
from typing import Any

from sanic import Sanic

from ops.payment_simulator.app import make_app


def main() -> None:
    """Serve until told to stop, as the options say."""
    options = _read_options()
    logging.getLogger("sanic.root").setLevel(logging.WARNING)
    logging.getLogger("sanic.server").setLevel(logging.WARNING)
    app = make_app(
        options.log,
        control=options.control,
        delay_seconds=options.delay_ms / 1000,
        authorization_seconds=options.authorization_seconds,
    )
    listening = socket.create_server((options.host, options.port), backlog=1024)
    if options.port_file is not None:
        _tell_the_port(app, options.port_file, listening.getsockname()[1])
    app.run(sock=listening, single_process=True, access_log=False, motd=False)


def _read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m ops.payment_simulator", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True, help="0 picks a free one; see --port-file")
    parser.add_argument("--port-file", type=Path, help="where to write the port once the simulator answers")
    parser.add_argument("--log", type=Path, required=True, help="the append-only log of everything that moved money")
    parser.add_argument("--delay-ms", type=float, default=0.0, help="how long every call takes")
    parser.add_argument(
        "--authorization-seconds", type=float, help="after this, uncaptured authorisations are canceled"
    )
    parser.add_argument("--control", action="store_true", help="let tests script faults under /control")
    return parser.parse_args()


def _tell_the_port(app: Sanic[Any, Any], path: Path, port: int) -> None:
    @app.after_server_start
    async def write_the_port(_: Sanic[Any, Any]) -> None:
        # Whoever waits for the file must never read half of it.
        unfinished = path.with_suffix(".unfinished")
        unfinished.write_text(f"{port}\n")
        unfinished.replace(path)


if __name__ == "__main__":
    main()
