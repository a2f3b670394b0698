"""Which consumer roles share this process? `python -m ops.bench.roles relay cleanup …`, so that shares can be told apart."""

import os
import sys

import uvloop

from consumers.__main__ import serve
from consumers.logs import set_up_logging
from contracts.settings import Settings

if __name__ == "__main__":
    set_up_logging()
    sys.exit(uvloop.run(serve(sys.argv[1:], Settings.read(os.environ))))
