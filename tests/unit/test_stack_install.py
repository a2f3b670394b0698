"""Does installing keep the machine's own services asleep, and clean up after itself?"""

from pathlib import Path

import pytest

from ops.stack import StackProblem, binaries


@pytest.fixture
def policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without any of the servers; the file by which Debian asks whether services may start."""
    monkeypatch.setattr(binaries, "is_here", lambda _: False)
    monkeypatch.setattr(binaries, "POLICY", tmp_path / "policy-rc.d")
    return tmp_path / "policy-rc.d"


def test_services_may_not_start_while_packages_are_installed(
    policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[list[str], bool]] = []
    monkeypatch.setattr(binaries, "_apt", lambda words, **_: asked.append((words, "exit 101" in policy.read_text())))
    said: list[str] = []
    binaries.install(["postgres", "rabbitmq"], log=tmp_path / "apt.log", say=said.append)
    assert asked[-1] == (["install", "-y", "--no-install-recommends", "postgresql", "rabbitmq-server"], True)
    assert not policy.exists()
    assert "postgresql, rabbitmq-server" in said[0]


def test_the_policy_goes_when_the_installation_fails(
    policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise StackProblem("no network")

    monkeypatch.setattr(binaries, "_apt", fail)
    with pytest.raises(StackProblem, match="no network"):
        binaries.install(["redis"], log=tmp_path / "apt.log", say=lambda _: None)
    assert not policy.exists()


def test_a_policy_of_the_machine_is_left_alone(policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    policy.write_text("theirs")
    monkeypatch.setattr(binaries, "_apt", lambda *_, **__: None)
    binaries.install(["redis"], log=tmp_path / "apt.log", say=lambda _: None)
    assert policy.read_text() == "theirs"
