"""Which consumer roles share this process? `python -m ops.bench.roles relay cleanup …`, so that shares can be told apart."""

import os
import sys

import uvloop

from consumers.__main__ import serve
from contracts.settings import Settings
from db.telemetry.logs import set_up_logging

if __name__ == "__main__":
    settings = Settings.read(os.environ)
    set_up_logging(settings.log_level, process="bench")
    sys.exit(uvloop.run(serve(sys.argv[1:], settings)))
