"""How is a stack stopped?"""

from ops.stack.screen import note, problems_shown, step
from ops.stack.stack import Stack


def down() -> None:
    """Stop everything that runs. What it has stored stays, for the next start."""
    with problems_shown(), step("stopped"):
        Stack.from_environment(say=note).down()
