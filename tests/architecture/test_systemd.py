"""Do the units agree with systemd, with the settings and with the roles in the code?"""

import re
import shutil
import subprocess
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import pytest

from consumers.__main__ import CLOSING_SECONDS, ROLES
from contracts.settings import PREFIX, Settings, UnusableSettings

FOLDER = Path(__file__).resolve().parents[2] / "ops" / "systemd"
UNITS = sorted(file.name for file in FOLDER.glob("*.service"))
# What each must have, so that somebody who breaks into a process finds himself nowhere.
HARDENED = {
    "User": "boxoffice",
    "NoNewPrivileges": "yes",
    "ProtectSystem": "strict",
    "ProtectHome": "yes",
    "PrivateTmp": "yes",
    "PrivateDevices": "yes",
    "CapabilityBoundingSet": "",
    "RestrictSUIDSGID": "yes",
}
EXPOSURE_MAX = 2.0  # of 10, as systemd reckons it

Unit = dict[str, list[str]]


def read_unit(text: str) -> Unit:
    """Each directive with its values, in the order in which they stand."""
    found: Unit = defaultdict(list)
    for line in text.splitlines():
        name, is_directive, value = line.partition("=")
        if is_directive and not line.startswith(("#", "[")):
            found[name].append(value)
    return found


def variables_of(unit: Unit) -> dict[str, str]:
    words = [word for line in unit["Environment"] for word in line.split()]
    return dict(word.split("=", 1) for word in words if word.startswith(PREFIX))


def read_environment_file(text: str) -> dict[str, str]:
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def problems_of(text: str) -> list[str]:
    """In what a unit disagrees with the code."""
    unit, found = read_unit(text), []
    found += [f"{name} is not {value!r}" for name, value in HARDENED.items() if unit[name] != [value]]
    for variable, value in variables_of(unit).items():
        try:
            Settings.read({variable: value.replace("%i", "8400")})
        except UnusableSettings as unusable:
            found.append(str(unusable))
    for started in unit["ExecStart"]:
        module = started.split(" -m ")[1].split()[0]
        if not module_exists(module):
            found.append(f"there is no {module}")
    stays = unit["Type"] == ["exec"]
    if stays and float((unit["TimeoutStopSec"] or ["0"])[0]) <= Settings().drain_seconds + CLOSING_SECONDS:
        found.append("it is killed before it has drained")
    if stays and not {"Restart", "MemoryMax", "LimitNOFILE"} <= unit.keys():
        found.append("it does not come back, or has no bounds")
    if stays and unit["Requires"] != ["boxoffice-migrate.service"]:
        found.append("it does not wait for the migrations")
    return found


def module_exists(module: str) -> bool:
    path = FOLDER.parents[1] / module.replace(".", "/")
    return path.with_suffix(".py").exists() or (path / "__main__.py").exists()


@pytest.mark.parametrize("name", UNITS)
def test_a_unit_agrees_with_the_code(name: str) -> None:
    assert problems_of((FOLDER / name).read_text()) == []


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda text: text.replace("BOXOFFICE_HTTP_PORT", "BOXOFFICE_HTTPS_PORT"), "not a setting"),
        (lambda text: text.replace("-m ingress", "-m ingres"), "there is no ingres"),
        (lambda text: text.replace("TimeoutStopSec=25", "TimeoutStopSec=10"), "killed before"),
        (lambda text: text.replace("NoNewPrivileges=yes\n", ""), "NoNewPrivileges"),
        (lambda text: text.replace("MemoryMax=1536M\n", ""), "no bounds"),
        (lambda text: text.replace("Requires=boxoffice-migrate.service\n", ""), "wait for the migrations"),
    ],
    ids=["variable", "module", "drain", "rights", "bounds", "order"],
)
def test_what_is_wrong_is_seen(spoil: Callable[[str], str], words: str) -> None:
    text = (FOLDER / "boxoffice-ingress@.service").read_text()
    assert any(words in problem for problem in problems_of(spoil(text)))


def test_files_are_allowed_for_every_stream() -> None:
    unit = read_unit((FOLDER / "boxoffice-ingress@.service").read_text())
    assert int(unit["LimitNOFILE"][0]) > Settings().streams_max + Settings().commands_in_flight_max


def test_every_role_has_a_port_of_its_own() -> None:
    told = {file.stem: read_environment_file(file.read_text()) for file in (FOLDER / "consumers").glob("*.env")}
    assert set(told) == set(ROLES)
    ports = [Settings.read(variables).metrics_port for variables in told.values()]
    assert len(set(ports)) == len(ROLES)
    assert Settings().http_port not in ports


def test_the_example_is_refused_for_its_secrets_and_for_nothing_else() -> None:
    told = read_environment_file((FOLDER / "boxoffice.env.example").read_text())
    with pytest.raises(UnusableSettings) as unusable:
        Settings.read(told)
    refused = {line.split()[0] for line in str(unusable.value).splitlines()}
    assert refused == {name for name, value in told.items() if "demo-" in value}


def test_the_readme_enables_every_role() -> None:
    (listed,) = re.findall(r"boxoffice-consumers@\{([a-z,]+)\}", (FOLDER / "README.md").read_text())
    assert sorted(listed.split(",")) == sorted(ROLES)


needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The units as they stand on a host, with a program that exists there."""
    for name in UNITS:
        text = (FOLDER / name).read_text().replace("/opt/boxoffice/bin/python", "/bin/true")
        (tmp_path / name).write_text(text)
        if "@" in name:
            instance = "8400" if "ingress" in name else "commands"
            (tmp_path / name.replace("@", f"@{instance}")).write_text(text)
    shutil.copy(FOLDER / "boxoffice.target", tmp_path)
    return tmp_path


def analyze(verb: str, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    names = sorted(file.name for file in folder.iterdir() if not file.stem.endswith("@"))
    chosen = [name for name in names if verb == "verify" or name.endswith(".service")]
    return subprocess.run(
        ["systemd-analyze", verb, *words, *(str(folder / name) for name in chosen)],
        capture_output=True,
        text=True,
        timeout=30,
        env={"SYSTEMD_UNIT_PATH": f"{folder}:", "PATH": "/usr/bin:/bin"},
    )


@needs_systemd
def test_systemd_understands_every_line(installed: Path) -> None:
    done = analyze("verify", installed, "--man=no")
    assert [line for line in done.stderr.splitlines() if str(installed) in line or "boxoffice" in line] == []


@needs_systemd
def test_a_line_that_systemd_does_not_know_is_seen(installed: Path) -> None:
    unit = installed / "boxoffice-migrate.service"
    unit.write_text(unit.read_text().replace("ProtectHome=yes", "ProtectHomes=yes"))
    assert "ProtectHomes" in analyze("verify", installed, "--man=no").stderr


@needs_systemd
def test_systemd_finds_little_that_an_intruder_could_use(installed: Path) -> None:
    done = analyze("security", installed, "--offline=true", "--no-pager")
    exposures = [float(found) for found in re.findall(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)]
    assert len(exposures) == len(UNITS), done.stderr
    assert max(exposures) < EXPOSURE_MAX
