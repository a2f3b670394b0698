"""Where do the log lines of a consumer process go? To standard error, one JSON object per line."""

import logging
import sys

from db.logs import JsonFormatter

# Their news of every lost and restored connection is ours to tell, once; their warnings stay.
_TALKATIVE = ("aio_pika", "aiormq", "faststream", "asyncio")


def set_up_logging(level: int = logging.INFO) -> None:
    """Send everything at `level` and above to standard error; call it once, in `__main__`."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))
    # aio_pika says the same of every failed attempt to connect, and says what it does about it.
    logging.getLogger("aiormq.connection").setLevel(logging.CRITICAL)
