"""What do we say when a backup or a restore cannot be done?"""

from ops.stack.problem import StackProblem


class BackupProblem(StackProblem):
    """Nothing was changed, or nothing more will be; the message says why, and what to do next."""
