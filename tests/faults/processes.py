"""How do the tests start, kill and freeze processes of our own?"""

import json
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TextIO, cast

from ops.stack.processes import Process, end, process_of
from ops.stack.readiness import http_status
from ops.stack.server import REPOSITORY
