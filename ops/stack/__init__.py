"""How do PostgreSQL, Redis, RabbitMQ and our own processes run on this machine, beside whatever else runs here?

stack = Stack("test", 9400)
stack.up()                                       # the servers; a second caller finds them running
settings = Settings.read(stack.environment())
stack.kill("redis"); stack.start("redis")
stack.down()
"""

from ops.stack.problem import StackProblem
from ops.stack.stack import APPLICATIONS, DATABASES, SERVERS, Stack, Status

__all__ = ["APPLICATIONS", "DATABASES", "SERVERS", "Stack", "StackProblem", "Status"]
