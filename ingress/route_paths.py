"""How is the path of a route read that Sanic has compiled?"""

import re

# An id with the ending of a file behind it, for which Sanic wants an expression: <id:(?P<id>...)\.png>.
_FILE = re.compile(r"<(\w+):\(\?P<\1>.+\)\\\.(\w+)>")
_TYPED = re.compile(r"<(\w+):[^>]*>")


def with_plain_files(path: str) -> str:
    """The path with what stands before the ending of a file as the id it is: `<ticket_id:uuid>.png`."""
    return _FILE.sub(r"<\1:uuid>.\2", path)


def template_of(path: str) -> str:
    """The path without the types of its parameters: `/api/tickets/<ticket_id>.png`."""
    return "/" + _TYPED.sub(r"<\1>", with_plain_files(path.lstrip("/")))
