"""What do we say when the local stack cannot do what it was asked?"""


class StackProblem(Exception):
    """Something an operator has to know; the message says what happened and what to do next."""
