"""How does a process that nobody waits for give way to those that buyers wait for?"""

import os
from contextlib import suppress
from pathlib import Path

# Where Linux groups processes by session, niceness counts within the group only; the group has a niceness of its own.
_AUTOGROUP = Path("/proc/self/autogroup")


def give_way(niceness: int) -> None:
    """Run at this niceness (1 to 19) from now on; where the system knows nothing of it, nothing changes."""
    os.nice(niceness)
    if os.getsid(0) != os.getpid():
        return  # the session is somebody else's, and so is its group
    with suppress(OSError):
        _AUTOGROUP.write_text(str(niceness))
