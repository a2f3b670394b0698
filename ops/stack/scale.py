"""How many processes of each kind does a stack run, what are they called, and where do they listen?

Without a scale there is one `ingress` and one `consumers` with every role. A scale such as `ingress=3 commands=2` puts three
ingress processes (`ingress-1` …) behind an nginx, and gives `commands` two processes of its own; the roles that are not named
stay together in `consumers`.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from consumers.__main__ import ROLES
from ops.stack.ports import OFFSETS
from ops.stack.problem import StackProblem

INGRESS = "ingress"
CONSUMERS = "consumers"
NGINX = "nginx"
# Takes the place of the only process of its kind while that one is restarted.
STAND_IN = "spare"
NO_SCALE = "none"

# Of one machine. More than these need a machine of their own anyway, and the ports behind a stack's first twelve are few.
INGRESS_MAX = 16
ROLE_MAX = 6

_COUNTED = re.compile(r"([a-z]+)=(\d+)")
_INSTANCE = re.compile(rf"([a-z]+)-(\d+|{STAND_IN})")

# Each process keeps its port whatever else the scale says, so that a change touches nobody who stays.
_FIRST = len(OFFSETS)
_STAND_INS = {INGRESS: _FIRST + INGRESS_MAX, CONSUMERS: _FIRST + INGRESS_MAX + 1}
_FIRST_OF_ROLES = _FIRST + INGRESS_MAX + 2


@dataclass(frozen=True)
class Scale:
    """How many processes there are of the ingress and of each role that has some of its own."""

    counts: Mapping[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        return " ".join(f"{name}={count}" for name, count in self.counts.items()) or NO_SCALE

    @property
    def has_nginx(self) -> bool:
        """Several ingress processes, or one that may become several, need somebody in front of them."""
        return INGRESS in self.counts

    @property
    def applications(self) -> tuple[str, ...]:
        """The names of our processes, in the order in which they are listed."""
        roles = [name for role in ROLES for name in self.instances_of(role)]
        rest = [CONSUMERS] if self.shared_roles else []
        return (*([NGINX] if self.has_nginx else []), *self.ingress_names, *roles, *rest)

    @property
    def ingress_names(self) -> tuple[str, ...]:
        """The ingress processes."""
        return self.instances_of(INGRESS) if self.has_nginx else (INGRESS,)

    @property
    def shared_roles(self) -> tuple[str, ...]:
        """The roles without a process of their own."""
        return tuple(role for role in ROLES if role not in self.counts)

    def instances_of(self, kind: str) -> tuple[str, ...]:
        """The processes that the ingress, or a role, has of its own."""
        return tuple(f"{kind}-{number}" for number in range(1, self.counts.get(kind, 0) + 1))

    def roles_of(self, name: str) -> tuple[str, ...]:
        """What a consumers process of this name does."""
        kind = kind_of(name)
        return (kind,) if kind in ROLES else self.shared_roles


def read_scale(words: Iterable[str]) -> Scale:
    """The scale in these words, such as `ingress=3` or `commands=2,payments=1`; raises StackProblem."""
    counts: dict[str, int] = {}
    for word in re.split(r"[\s,]+", " ".join(words).strip()):
        if word in ("", NO_SCALE):
            continue
        match = _COUNTED.fullmatch(word)
        if match is None:
            raise StackProblem(f"{word!r} is no scale: say for instance ingress=3 commands=2, or {NO_SCALE}")
        name, count = match[1], int(match[2])
        _check(name, count)
        counts[name] = count
    return Scale(counts)


def is_instance(name: str) -> bool:
    """A process that only a scale makes: `commands-2`, or one that stands in for another for a moment."""
    match = _INSTANCE.fullmatch(name)
    if match is None:
        return False
    kind, number = match[1], match[2]
    if number == STAND_IN:
        return kind in (INGRESS, CONSUMERS, *ROLES)
    return kind in (INGRESS, *ROLES) and 1 <= int(number) <= _most_of(kind)


def kind_of(name: str) -> str:
    """`commands` for `commands-2`, the name itself for what there is only one of."""
    return name.rpartition("-")[0] if is_instance(name) else name


def stand_in_of(name: str) -> str:
    """Who takes the place of this process while it is away."""
    return f"{kind_of(name)}-{STAND_IN}"


def port_of_instance(name: str, *, port_base: int) -> int:
    """Where this instance listens: an ingress for requests, consumers for whoever measures them; raises StackProblem."""
    kind, number = name.split("-")
    if kind in _STAND_INS:
        offset = _STAND_INS[kind] if number == STAND_IN else _FIRST + int(number) - 1
    else:
        offset = _FIRST_OF_ROLES + list(ROLES).index(kind) * (ROLE_MAX + 1)
        offset += ROLE_MAX if number == STAND_IN else int(number) - 1
    if port_base + offset > 65535:
        raise StackProblem(f"port base {port_base} leaves no room for {name}: choose a lower BOXOFFICE_PORT_BASE")
    return port_base + offset


def _check(name: str, count: int) -> None:
    if name not in (INGRESS, *ROLES):
        raise StackProblem(f"nothing called {name!r} can be scaled; there are {', '.join((INGRESS, *ROLES))}")
    if not 1 <= count <= _most_of(name):
        raise StackProblem(f"{name}={count}: between 1 and {_most_of(name)} on one machine")


def _most_of(kind: str) -> int:
    return INGRESS_MAX if kind == INGRESS else ROLE_MAX
