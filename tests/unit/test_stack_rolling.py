"""In which order are processes restarted, and who does the work of one that is away?"""

from collections.abc import Iterable, Mapping
from typing import cast

import pytest

from ops.stack import Stack, StackProblem
from ops.stack import rolling as steps
from ops.stack.rolling import change_scale, restart
from ops.stack.scale import Scale, kind_of, read_scale


class Diary:
    """A stack that writes down what it is told; what is in `broken` does not start."""

    def __init__(self, scale: Scale, *, broken: frozenset[str] = frozenset()) -> None:
        self.scale = scale
        self.running = set(scale.applications)
        self.entries: list[str] = []
        self._broken = broken

    @property
    def applications(self) -> tuple[str, ...]:
        return self.scale.applications

    @property
    def left_over(self) -> tuple[str, ...]:
        return tuple(sorted(self.running.difference(self.applications)))

    @property
    def nginx(self) -> "Diary":
        return self

    def port_of(self, name: str) -> int:
        if kind_of(name) == name and name not in ("ingress", "consumers", "nginx", "redis"):
            raise StackProblem(f"there is no {name}")
        return 1

    def find_or_install(self, _: Iterable[str]) -> None:
        self.entries.append("find")

    def keep_scale(self, scale: Scale) -> None:
        self.scale = scale

    def process(self, name: str) -> object | None:
        return name if name in self.running else None

    def up(self, names: Iterable[str]) -> None:
        for name in names:
            if name not in self.running:
                self.start(name)

    def down(self, names: Iterable[str]) -> None:
        for name in names:
            self.stop(name)

    def start(self, name: str, *, environment: Mapping[str, str] | None = None) -> None:  # noqa: ARG002 -- as the stack's
        if name in self._broken:
            raise StackProblem(f"{name} ended by itself")
        self.running.add(name)
        self.entries.append(f"start {name}")

    def stop(self, name: str) -> None:
        self.running.discard(name)
        self.entries.append(f"stop {name}")

    def send_away(self, name: str) -> None:
        self.entries.append(f"away {name}")

    def welcome(self, name: str) -> None:
        self.entries.append(f"welcome {name}")

    def reload(self, _: object) -> None:
        self.entries.append("reload nginx")


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "FORGIVEN_SECONDS", 0)
    monkeypatch.setattr(steps, "SHARE_SECONDS", 0)


def restarted(diary: Diary, *names: str, rolling: bool = True) -> list[str]:
    """What was said."""
    said: list[str] = []
    restart(cast(Stack, diary), names, rolling=rolling, say=said.append)
    return said


def test_consumers_go_first_and_nginx_last() -> None:
    diary = Diary(read_scale(["ingress=2 commands=2"]))
    restarted(diary)
    assert diary.entries == [
        *("stop commands-1", "start commands-1", "stop commands-2", "start commands-2"),
        *("start consumers-spare", "stop consumers", "start consumers", "stop consumers-spare"),
        *("away ingress-1", "stop ingress-1", "start ingress-1", "welcome ingress-1"),
        *("away ingress-2", "stop ingress-2", "start ingress-2", "welcome ingress-2"),
        "reload nginx",
    ]


def test_the_only_ingress_behind_nginx_is_stood_in_for() -> None:
    diary = Diary(read_scale(["ingress=1"]))
    assert "nobody" not in " ".join(restarted(diary, "ingress-1"))
    assert diary.entries == [
        *("start ingress-spare", "away ingress-1", "stop ingress-1", "start ingress-1", "welcome ingress-1"),
        "stop ingress-spare",
    ]


def test_without_nginx_the_gap_is_said() -> None:
    diary = Diary(Scale())
    said = restarted(diary)
    assert diary.entries[-2:] == ["stop ingress", "start ingress"]
    assert "nobody" not in said[0]
    assert "nobody answered requests" in said[1]
    assert "--scale ingress=2" in said[1]


def test_a_server_that_there_is_one_of_leaves_a_gap_too() -> None:
    assert "only one of it" in restarted(Diary(Scale()), "redis")[0]


def test_a_version_that_does_not_start_goes_no_further() -> None:
    diary = Diary(read_scale(["ingress=2 commands=2"]), broken=frozenset({"commands-1"}))
    with pytest.raises(StackProblem, match="commands-1 ended by itself"):
        restarted(diary)
    assert diary.entries == ["stop commands-1"]
    assert "commands-2" in diary.running


def test_whoever_stands_in_for_one_that_does_not_come_back_stays() -> None:
    diary = Diary(read_scale(["payments=1"]), broken=frozenset({"payments-1"}))
    with pytest.raises(StackProblem):
        restarted(diary, "payments-1")
    assert "payments-spare" in diary.running


def test_who_stood_in_is_drained_by_the_next_start() -> None:
    diary = Diary(read_scale(["payments=1"]))
    diary.running = {*diary.running, "payments-spare"} - {"payments-1"}
    change_scale(cast(Stack, diary), diary.scale)
    assert diary.entries == ["find", "start payments-1", "stop payments-spare"]


def test_all_at_once_is_quicker_and_says_so() -> None:
    diary = Diary(read_scale(["commands=2"]))
    said = restarted(diary, "commands-1", "commands-2", rolling=False)
    assert diary.entries == ["stop commands-1", "stop commands-2", "start commands-1", "start commands-2"]
    assert "--rolling" in said[0]


def test_nothing_is_touched_when_a_name_is_wrong() -> None:
    diary = Diary(Scale())
    with pytest.raises(StackProblem, match="no mistake"):
        restarted(diary, "ingress", "mistake")
    assert diary.entries == []


def test_a_change_of_the_scale_touches_only_the_difference() -> None:
    diary = Diary(read_scale(["ingress=2 commands=2"]))
    change_scale(cast(Stack, diary), read_scale(["ingress=3 commands=1"]))
    assert diary.entries == ["find", "start ingress-3", "reload nginx", "stop commands-2"]


def test_roles_move_between_processes_without_a_gap() -> None:
    diary = Diary(Scale())
    change_scale(cast(Stack, diary), read_scale(["payments=1"]))
    assert diary.entries == [
        *("find", "start payments-1"),
        *("start consumers-spare", "stop consumers", "start consumers", "stop consumers-spare"),
    ]


def test_the_port_changes_hands_when_nginx_comes_and_goes() -> None:
    diary = Diary(Scale())
    change_scale(cast(Stack, diary), read_scale(["ingress=2"]))
    assert diary.entries == ["find", "start ingress-1", "start ingress-2", "stop ingress", "start nginx"]
    diary.entries.clear()
    change_scale(cast(Stack, diary), Scale())
    assert diary.entries == ["find", "stop nginx", "start ingress", "stop ingress-1", "stop ingress-2"]
