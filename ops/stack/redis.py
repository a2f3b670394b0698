"""How is our Redis started and asked whether it is there?"""

from ops.stack import binaries
from ops.stack.ports import HOST
from ops.stack.processes import Launch
from ops.stack.readiness import redis_answers
from ops.stack.server import REPOSITORY, Server

CONFIGURATION = REPOSITORY / "ops" / "redis" / "redis.conf"


class Redis(Server):
    """Redis for locks, sessions, rate limits and the waiting room."""

    name = "redis"
    port_names = ("redis",)
    address_setting = "BOXOFFICE_REDIS_URL"

    @property
    def url(self) -> str:
        return f"redis://{HOST}:{self.port}/0"

    def launch(self) -> Launch:
        return Launch(
            command=[
                str(binaries.redis_program()),
                str(CONFIGURATION),
                *("--bind", HOST),
                *("--port", str(self.port)),
                *("--dir", str(self.data_folder)),
            ],
            environment=self.site.shell(),
            folder=self.data_folder,
        )

    def answers(self) -> bool:
        return redis_answers(HOST, self.port)
