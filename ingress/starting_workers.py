"""Does an ingress of several workers end when it is told to while they are still starting?

Sanic's manager waits for each worker to say that it has begun, and reads the order to end among their messages. It puts back
what is no such message and reads it again, for ever and at full speed, while the workers are long gone.
"""

from sanic.worker.manager import WorkerManager


def end_while_starting() -> None:
    """From now on a manager in this process that is to end waits for nobody to begin."""
    have_begun = WorkerManager._all_workers_ack

    def need_not_be_waited_for(manager: WorkerManager) -> bool:
        return manager._shutting_down or bool(have_begun(manager))  # type: ignore[no-untyped-call]

    WorkerManager._all_workers_ack = need_not_be_waited_for  # type: ignore[method-assign]
