"""What have our processes written to their logs?"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def lines_of(*files: Path) -> Iterator[dict[str, Any]]:
    """The lines of these logs that are ours, which is JSON; a line that is still being written is left out."""
    for file in files:
        for text in file.read_text(errors="replace").splitlines():
            try:
                line = json.loads(text)
            except ValueError:
                continue
            if isinstance(line, dict):
                yield line
