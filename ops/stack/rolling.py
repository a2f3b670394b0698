"""In which steps does a running stack change its processes, so that no request is lost and none is carried out twice?

Consumers go first and the ingress after them: a new ingress may ask for something that only new consumers know, never the
other way round. Of several processes one is away at a time and the others do its work. The only one of its kind is stood in
for by a second one until it is back.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext

from ops.stack.ports import HOST
from ops.stack.problem import StackProblem
from ops.stack.readiness import http_text
from ops.stack.scale import CONSUMERS, INGRESS, NGINX, Scale, kind_of, stand_in_of
from ops.stack.stack import SERVERS, Stack

# nginx asks a process again a second after it was not there (fail_timeout in ops/nginx/place/http.conf).
FORGIVEN_SECONDS = 1.2
# Processes of this role look once a second who else there is, and then divide the queues anew.
COMMANDS = "commands"
SHARE = "boxoffice_queue_share{"
SHARE_STEADY_SECONDS = 2.5
SHARE_SECONDS = 20.0
LOOK_SECONDS = 0.2


def change_scale(stack: Stack, scale: Scale) -> None:
    """Start what this scale has and the stack has not, then drain what the stack has and the scale has not; raises
    StackProblem. What is in both goes on undisturbed."""
    stack.find_or_install(scale.applications)  # before anything is stopped
    has_other_roles = stack.scale.shared_roles != scale.shared_roles and stack.process(CONSUMERS) is not None
    stack.keep_scale(scale)
    if not scale.has_nginx and stack.process(NGINX) is not None:
        stack.stop(NGINX)  # it has the port
    later = {NGINX, CONSUMERS} if has_other_roles else {NGINX}
    stack.up(name for name in scale.applications if name not in later)
    if has_other_roles and scale.shared_roles:
        _restart_one(stack, CONSUMERS, None)
    if scale.has_nginx:
        _put_in_front(stack)
    stack.down(stack.left_over)


def restart(
    stack: Stack,
    names: Iterable[str] = (),
    *,
    rolling: bool,
    environment: Mapping[str, str] | None = None,
    say: Callable[[str], None] = print,
) -> None:
    """Restart these, or all our processes; with `rolling` one at a time and without a gap where that is possible. Raises
    StackProblem; `environment` adds variables for those that are started."""
    wanted = list(dict.fromkeys(names)) or list(stack.applications)
    for name in wanted:
        stack.port_of(name)  # raises for what there is not
    in_order = sorted(wanted, key=_turn)
    if not rolling:
        stopped_at = time.monotonic()
        stack.down(in_order)
        for name in in_order:
            stack.start(name, environment=environment)
        say(
            f"restarted; nobody did their work for up to {time.monotonic() - stopped_at:.1f} s: --rolling leaves no gap"
        )
        return
    for name in in_order:
        began_at = time.monotonic()
        gap = _restart_one(stack, name, environment)
        say(f"{name}: restarted in {time.monotonic() - began_at:.1f} s{_words_for(name, gap)}")


def _turn(name: str) -> int:
    """Servers, consumers, ingress, nginx."""
    if name in SERVERS:
        return 0
    return {INGRESS: 2, NGINX: 3}.get(kind_of(name), 1)


def _restart_one(stack: Stack, name: str, environment: Mapping[str, str] | None) -> float | None:
    """Returns how long nobody did its work, in seconds; None when somebody did all the time."""
    if name == NGINX:
        _reload(stack)
        return None
    away = _away(stack, name, environment) if name not in (*SERVERS, INGRESS) else nullcontext()
    with away:
        stopped_at = time.monotonic()
        stack.stop(name)
        _start(stack, name, environment)
        back_at = time.monotonic()
    return back_at - stopped_at if isinstance(away, nullcontext) else None


@contextmanager
def _away(stack: Stack, name: str, environment: Mapping[str, str] | None) -> Iterator[None]:
    """Others do its work meanwhile, and go on doing it if it does not come back: `boxoffice up` then puts things right."""
    is_alone = len(_colleagues(stack, name)) < 2
    if is_alone:
        _start(stack, stand_in_of(name), environment)
    if kind_of(name) == INGRESS:
        stack.nginx.send_away(name)
    yield
    if kind_of(name) == INGRESS:
        stack.nginx.welcome(name)
        time.sleep(FORGIVEN_SECONDS)
    if is_alone:
        stack.stop(stand_in_of(name))


def _start(stack: Stack, name: str, environment: Mapping[str, str] | None) -> None:
    stack.start(name, environment=environment)
    if _is_consumers(name) and COMMANDS in stack.scale.roles_of(name):
        _wait_for_its_share(stack, name)


def _wait_for_its_share(stack: Stack, name: str) -> None:
    """Until it has subscribed to the queues that are its own to drain or to stand by at: the next to leave hands over to it."""
    give_up_at, since, last = time.monotonic() + SHARE_SECONDS, 0.0, 0.0
    while time.monotonic() < give_up_at:
        count = _queue_count(stack.port_of(name))
        if count == 0 or count != last:
            since, last = time.monotonic(), count
        elif time.monotonic() - since >= SHARE_STEADY_SECONDS:
            return
        time.sleep(LOOK_SECONDS)


def _queue_count(port: int) -> float:
    lines = http_text(HOST, port, "/metrics").splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(SHARE))


def _is_consumers(name: str) -> bool:
    return name not in SERVERS and kind_of(name) not in (INGRESS, NGINX)


def _colleagues(stack: Stack, name: str) -> tuple[str, ...]:
    return tuple(other for other in stack.applications if kind_of(other) == kind_of(name))


def _words_for(name: str, gap: float | None) -> str:
    if gap is None:
        return ""
    if name == INGRESS:
        return f"; nobody answered requests for up to {gap:.1f} s: with `boxoffice up --scale ingress=2` another would have"
    return f"; nobody did its work for up to {gap:.1f} s: there is only one of it"


def _put_in_front(stack: Stack) -> None:
    if stack.process(NGINX) is not None:
        _reload(stack)
        return
    if stack.process(INGRESS) is not None:
        stack.stop(INGRESS)  # it has the port
    stack.up([NGINX])


def _reload(stack: Stack) -> None:
    master = stack.process(NGINX)
    if master is None:
        raise StackProblem("nginx is not running")
    stack.nginx.reload(master)
