"""Is the image built as it should be: in stages, from exact versions, for nobody's root?"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from contracts.settings import Settings
from ops.container.alive import live_port

REPOSITORY = Path(__file__).resolve().parents[2]
DOCKERFILE = REPOSITORY / "ops" / "container" / "Dockerfile"
BUILD_TOOLS = re.compile(r"\b(pip3? (--\S+ \S+ )?install|apt-get install|gcc|build-essential|git|curl)\b")


class Instruction(NamedTuple):
    word: str
    rest: str


Stage = list[Instruction]


def stages_of(text: str) -> list[Stage]:
    """The instructions of each stage, those before the first stage apart in front."""
    joined = re.sub(r"\\\n", " ", re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE))
    stages: list[Stage] = [[]]
    for line in filter(None, map(str.strip, joined.splitlines())):
        word, _, rest = line.partition(" ")
        if word == "FROM":
            stages.append([])
        stages[-1].append(Instruction(word, rest.strip()))
    return stages


def values(stage: Stage, word: str) -> list[str]:
    return [instruction.rest for instruction in stage if instruction.word == word]


def problems_of(text: str) -> list[str]:
    """What is not as it should be."""
    before, *stages = stages_of(text)
    final, found = stages[-1], []
    bases = [arg.split("=", 1)[1] for arg in values(before, "ARG") if arg.startswith("BASE=")]
    if any(not re.fullmatch(r"[\w./-]+(:\d+\.\d+\.\d+[\w.-]*|@sha256:[0-9a-f]{64})", base) for base in bases):
        found.append(f"the base is not an exact version: {bases}")
    if len(stages) < 2 or any(values(stage, "FROM")[0].split()[0] != "${BASE}" for stage in stages):
        found.append("it is not built in stages of one base")
    if any(re.search(r"https?://", rest) for stage in stages for rest in values(stage, "ADD")):
        found.append("something is fetched from the network without a hash")
    if not any("--require-hashes -r ops/locks/runtime.txt" in rest for rest in values(stages[0], "RUN")):
        found.append("the packages are not those of the lock")
    users = values(final, "USER")
    if not users or not re.fullmatch(r"[1-9]\d*(:[1-9]\d*)?", users[-1]):
        found.append("it runs as root, or as somebody whom Kubernetes cannot tell from root")
    if tools := [rest for rest in values(final, "RUN") if BUILD_TOOLS.search(rest)]:
        found.append(f"the last stage builds: {tools}")
    if any("--from=" not in rest for rest in values(final, "COPY")):
        found.append("the last stage copies sources")
    if not values(final, "HEALTHCHECK"):
        found.append("nobody can tell whether it lives")
    labels = " ".join(values(final, "LABEL"))
    found += [
        f"no label {name}" for name in ("title", "licenses", "version", "revision") if f"image.{name}=" not in labels
    ]
    for command in (*values(final, "CMD"), *values(final, "HEALTHCHECK")):
        module = re.findall(r'"-m", "([\w.]+)"', command)
        if not module or not module_exists(module[0]):
            found.append(f"there is no module to start in {command}")
    return found


def module_exists(module: str) -> bool:
    path = REPOSITORY / module.replace(".", "/")
    return path.with_suffix(".py").exists() or (path / "__main__.py").exists()


def test_the_image_is_as_it_should_be() -> None:
    assert problems_of(DOCKERFILE.read_text()) == []


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda text: re.sub(r"BASE=python:.*", "BASE=python:3-slim", text, count=1), "not an exact version"),
        (lambda text: text.replace("USER 10001:10001\n", ""), "runs as root"),
        (lambda text: text.replace("USER 10001:10001", "USER boxoffice"), "whom Kubernetes"),
        (lambda text: text.replace("--require-hashes ", ""), "not those of the lock"),
        (lambda text: text.replace("STOPSIGNAL", "ADD https://example.com/x /x\nSTOPSIGNAL"), "without a hash"),
        (lambda text: text.replace("STOPSIGNAL", "RUN apt-get install -y gcc\nSTOPSIGNAL"), "the last stage builds"),
        (lambda text: text.replace("STOPSIGNAL", "COPY ops ops\nSTOPSIGNAL"), "copies sources"),
        (lambda text: text.replace('"ops.container.alive"', '"ops.container.well"'), "no module to start"),
        (lambda text: text.replace("image.revision=", "image.source="), "no label revision"),
    ],
    ids=["base", "root", "name", "hashes", "add", "tools", "sources", "module", "label"],
)
def test_what_is_wrong_is_seen(spoil: Callable[[str], str], words: str) -> None:
    assert any(words in problem for problem in problems_of(spoil(DOCKERFILE.read_text())))


def test_every_folder_that_is_copied_is_there_and_none_that_is_ignored() -> None:
    _, built, _ = stages_of(DOCKERFILE.read_text())
    ignored = (DOCKERFILE.parent / "Dockerfile.dockerignore").read_text().splitlines()
    for rest in values(built, "COPY"):
        *sources, _ = rest.split()
        for source in sources:
            assert (REPOSITORY / source).exists(), source
            assert f"!{source.split('/')[0]}" in ignored, source


def test_the_lock_has_a_hash_for_every_package() -> None:
    entries = re.split(r"\n(?=\S)", (REPOSITORY / "ops" / "locks" / "runtime.txt").read_text().strip())
    packages = [entry for entry in entries if not entry.startswith("#")]
    assert len(packages) > 40
    assert [entry.splitlines()[0] for entry in packages if "--hash=sha256:" not in entry] == []


@pytest.mark.parametrize(
    ("words", "port"),
    [
        (["python", "-m", "ingress"], 8400),
        (["/opt/boxoffice/bin/python", "-m", "consumers", "commands"], 8411),
        (["python", "-m", "consumers", "declare-topology"], None),
        (["python", "-m", "db.migrate"], None),
        (["sh"], None),
    ],
    ids=["ingress", "consumer", "topology", "migration", "shell"],
)
def test_a_container_asks_its_own_process_whether_it_lives(words: list[str], port: int | None) -> None:
    assert live_port(words, Settings()) == port
