"""Does every alert fire when it should, only then, about something that exists, and with a page that says what to do?"""

import copy
import json
import re
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from consumers.__main__ import ROLES
from contracts.settings import PREFIX, Settings
from ops.command import app
from ops.dashboards.files import DASHBOARDS
from ops.prometheus import local
from ops.stack import Stack, StackProblem, binaries
from ops.stack.scale import read_scale
from tests.architecture.test_dashboards import labels_in, names_in, recorded, series_of_the_code

REPOSITORY = Path(__file__).resolve().parents[2]
FOLDER = REPOSITORY / "ops" / "prometheus"
RUNBOOK = REPOSITORY / "ops" / "runbook"

Rules = dict[str, Any]

SEVERITIES = {"critical", "warning"}
# What an alert may be about. Each is from a closed set, or one of the events on sale.
LABELS = {"event_id", "queue", "check", "guard", "kind", "dependency", "role", "job", "instance"}
# Of Prometheus itself, and of what prometheus.yml adds.
OF_EVERY_TARGET = {"job", "instance", "role"}
# Pages about something that no alert tells of.
OTHER_PAGES = {"README.md", "disaster-recovery.md"}
SECTIONS = [
    "What it means for buyers",
    "What to look at",
    "What to do",
    "What not to do",
    "How you know that it is over",
]


def read(name: str) -> Rules:
    loaded = yaml.safe_load((FOLDER / name).read_text(encoding="utf-8"))
    assert isinstance(loaded, dict)
    return loaded


ALERTS = {rule["alert"]: rule for group in read("alerts.yml")["groups"] for rule in group["rules"]}
RECORDED = [rule for group in read("recording.yml")["groups"] for rule in group["rules"]]
GROUPS = [group["name"] for group in read("alerts.yml")["groups"]]


@pytest.fixture(scope="session")
def promtool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Debian's; installed where we may, as the servers are."""
    if not binaries.is_here("promtool"):
        if not binaries.may_install({}):
            pytest.skip(binaries.advice("promtool"))
        try:
            binaries.install(["promtool"], log=tmp_path_factory.mktemp("apt") / "apt.log", say=print)
        except StackProblem as problem:
            pytest.skip(str(problem))
    return binaries.promtool_program()


def told_by(promtool: Path, *words: str, folder: Path = FOLDER) -> tuple[int, str]:
    done = subprocess.run([str(promtool), *words], cwd=folder, capture_output=True, text=True, check=False, timeout=300)
    return done.returncode, done.stdout + done.stderr


# ---- do they fire?


def laid_out(folder: Path, group: str, alerts: Rules, recording: Rules) -> Path:
    """A copy of the rules and of one group's tests, with nothing but that group and what it is worked out from: promtool
    evaluates every rule at every step."""
    ours = next(one for one in alerts["groups"] if one["name"] == group)
    wanted = [rule for one in recording["groups"] for rule in one["rules"] if rule["record"] in str(ours)]
    (folder / "tests").mkdir(parents=True)
    (folder / "alerts.yml").write_text(yaml.safe_dump({"groups": [ours]}))
    (folder / "recording.yml").write_text(yaml.safe_dump({"groups": [{"name": "recorded", "rules": wanted}]}))
    (folder / "tests" / f"{group}.yml").write_text((FOLDER / "tests" / f"{group}.yml").read_text())
    return folder / "tests"


def run_tests(promtool: Path, folder: Path, group: str, alerts: Rules, recording: Rules) -> tuple[int, str]:
    tests = laid_out(folder, group, alerts, recording)
    return told_by(promtool, "test", "rules", f"{group}.yml", folder=tests)


@pytest.mark.parametrize("group", GROUPS)
def test_the_alerts_of_a_group_fire_when_they_should_and_only_then(promtool: Path, tmp_path: Path, group: str) -> None:
    code, told = run_tests(promtool, tmp_path / group, group, read("alerts.yml"), read("recording.yml"))
    assert code == 0, told


def test_the_recorded_figures_are_what_their_names_say(promtool: Path) -> None:
    code, told = told_by(promtool, "test", "rules", "tests/recording.yml")
    assert code == 0, told


def test_every_alert_is_tested_to_fire_and_to_stay_silent() -> None:
    for group in GROUPS:
        alerts = {
            rule["alert"] for one in read("alerts.yml")["groups"] if one["name"] == group for rule in one["rules"]
        }
        fires, silent, near = set(), set(), set()
        for test in read(f"tests/{group}.yml")["tests"]:
            name, story = test["name"].split(" ", 1)
            checks = test["alert_rule_test"]
            assert {check["alertname"] for check in checks} == {name}, test["name"]
            fires |= {name for check in checks if check.get("exp_alerts")}
            if not any(check.get("exp_alerts") for check in checks):
                silent.add(name)
                near |= {name} if story.startswith("near miss: ") else set()
        assert fires == silent == alerts, group
        assert near == alerts, f"{group}: near misses of {alerts - near} are missing"


# Where a number is compared with. What is divided by is only kept from being nought.
_LIMIT = re.compile(r"(>=|<=|==|>|<)\s*(\d+(?:\.\d+)?)(?!\d)(?<!> 0\))")


def less_sensitive(match: re.Match[str]) -> str:
    sign, number = match[1], float(match[2])
    if sign == "==":
        return f"== {number + 1}"
    if sign.startswith("<"):
        return f"{sign} {number / 2.1}"
    return f"{sign} {number * 2.1 or 1e12}"


def more_sensitive(match: re.Match[str]) -> str:
    sign, number = match[1], float(match[2])
    if sign == "==":
        return f"== {number + 1}"
    if sign.startswith("<"):
        return f"{sign} {number * 2.1}"
    return f"{sign} {number / 2.1}" if number else ">= 0"


def with_other_limits(rules: Rules, change: Callable[[re.Match[str]], str]) -> Rules:
    changed = copy.deepcopy(rules)
    for group in changed["groups"]:
        for rule in group["rules"]:
            kept = rule["expr"].replace(" > 0)", "  NOT NOUGHT)")
            rule["expr"] = _LIMIT.sub(change, kept).replace("  NOT NOUGHT)", " > 0)")
    return changed


def failing(promtool: Path, folder: Path, alerts: Rules, recording: Rules) -> set[str]:
    """The alerts of which a test fails."""
    told = [run_tests(promtool, folder / group, group, alerts, recording)[1] for group in GROUPS]
    return set(re.findall(r"alertname: ?(\w+), time", "".join(told)))


@pytest.mark.slow
@pytest.mark.parametrize("change", [less_sensitive, more_sensitive], ids=lambda change: change.__name__)
def test_an_alert_with_another_limit_fails_its_test(
    promtool: Path, tmp_path: Path, change: Callable[[re.Match[str]], str]
) -> None:
    # What is recorded is worked out as before, but for what decides alone whether an alert fires.
    recording = with_other_limits(read("recording.yml"), change) if change is more_sensitive else read("recording.yml")
    noticed = failing(promtool, tmp_path, with_other_limits(read("alerts.yml"), change), recording)
    assert set(ALERTS) - noticed == set()


@pytest.mark.slow
def test_an_alert_that_does_not_wait_fails_its_test(promtool: Path, tmp_path: Path) -> None:
    hasty = copy.deepcopy(read("alerts.yml"))
    patient = {rule["alert"] for group in hasty["groups"] for rule in group["rules"] if rule.pop("for", None)}
    assert patient - failing(promtool, tmp_path, hasty, read("recording.yml")) == set()


# ---- are they well formed?


def test_prometheus_takes_the_rules_and_both_configurations(promtool: Path, tmp_path: Path) -> None:
    mine = tmp_path / "prometheus.yml"
    mine.write_text(yaml.safe_dump(local.configuration(Stack("dev", variables={}))))
    for words in (("rules", "recording.yml", "alerts.yml"), ("config", "prometheus.yml"), ("config", str(mine))):
        code, told = told_by(promtool, "check", *words)
        assert code == 0, told
        assert "duplicate" not in told.lower(), told


def test_every_alert_says_how_urgent_it_is_what_it_means_and_where_to_read_on() -> None:
    for name, alert in ALERTS.items():
        assert alert["labels"].keys() == {"severity"}
        assert alert["labels"]["severity"] in SEVERITIES, name
        annotations = alert["annotations"]
        assert annotations.keys() == {"summary", "description", "runbook_url"}, name
        assert len(annotations["description"]) > 40, name
        assert re.fullmatch(r"ops/runbook/[a-z-]+\.md", annotations["runbook_url"]), name


def test_the_labels_of_an_alert_are_from_small_sets() -> None:
    for name, alert in ALERTS.items():
        grouped = re.findall(r"\b(?:by|on)\s*\(([^)]*)\)", alert["expr"])
        labels = {label.strip() for group in grouped for label in group.split(",")} - {"", "le"}
        assert labels <= LABELS, name


def test_the_roles_that_must_run_are_those_that_there_are() -> None:
    for record in ("boxoffice:role:wanted", "boxoffice:role:running"):
        roles = [rule["labels"]["role"] for rule in RECORDED if rule["record"] == record]
        assert sorted(roles) == sorted(["ingress", *ROLES])
    for rule in RECORDED:
        if rule["record"] == "boxoffice:role:running" and rule["labels"]["role"] != "ingress":
            assert f"({rule['labels']['role']}|all)" in rule["expr"]


# ---- do they ask for what is there?


def problems_of(expression: str, known: dict[str, set[str]]) -> list[str]:
    """Metrics and labels in it that nobody exports."""
    bare = re.sub(r"\boffset\s+\d+[smhd]", " ", expression)
    bare = re.sub(r"\b(?!by\b|on\b|without\b|ignoring\b)[a-z_]+\s*\(", "(", bare)  # functions
    names = names_in(bare)
    labels = set().union(*(known.get(name, set()) for name in names), OF_EVERY_TARGET, {"le"})
    return [*sorted(names - set(known)), *sorted(labels_in(expression) - labels)]


def metrics_of_ours() -> dict[str, set[str]]:
    """Every series that our processes export, or that is recorded from them."""
    known = series_of_the_code() | {"up": set()}
    for rule in RECORDED:
        grouped = {
            label.strip() for group in re.findall(r"\bby \(([^)]*)\)", rule["expr"]) for label in group.split(",")
        }
        known.setdefault(rule["record"], set()).update(grouped | set(rule.get("labels", {})))
    return known


def metrics_of_the_broker(stack: Stack) -> dict[str, set[str]]:
    """What the broker of the tests tells, asked as prometheus.yml asks it."""
    known: dict[str, set[str]] = {}
    for job in read("prometheus.yml")["scrape_configs"]:
        if not job["job_name"].startswith("rabbitmq"):
            continue
        asked = "&".join(f"{key}={value}" for key, values in job.get("params", {}).items() for value in values)
        url = f"http://127.0.0.1:{stack.ports['prometheus']}{job.get('metrics_path', '/metrics')}?{asked}"
        with urllib.request.urlopen(url, timeout=10) as page:
            for name, labels in re.findall(r"^(\w+)(?:\{(.*)\})? ", page.read().decode(), re.MULTILINE):
                known.setdefault(name, set()).update(re.findall(r"(\w+)=\"", labels))
    return known


def test_every_rule_asks_for_metrics_and_labels_that_somebody_exports(stack: Stack) -> None:
    known = metrics_of_ours() | metrics_of_the_broker(stack)
    rules = [(name, alert["expr"]) for name, alert in ALERTS.items()]
    rules += [(rule["record"], rule["expr"]) for rule in RECORDED]
    assert {name: found for name, expr in rules if (found := problems_of(expr, known))} == {}
    assert recorded() <= set(known)


@pytest.mark.parametrize(
    ("expression", "missing"),
    [
        ("max(boxoffice_parkd_messages) > 0", ["boxoffice_parkd_messages"]),
        ("max by (quue) (boxoffice_stuck_queues) > 0", ["quue"]),
        ('increase(checkout_failed_total{because="x"}[5m]) > 0', ["because"]),
        ("absent(max_over_time(boxoffice_redy[5m] offset 10m)) unless on () up", ["boxoffice_redy"]),
    ],
    ids=["metric", "grouped by", "chosen by", "within functions"],
)
def test_a_rule_that_asks_for_what_is_not_there_is_found(expression: str, missing: list[str]) -> None:
    assert problems_of(expression, metrics_of_ours()) == missing


# ---- whom does Prometheus ask?


def test_prometheus_asks_every_process_of_docker_compose() -> None:
    services = yaml.safe_load((REPOSITORY / "docker-compose.yml").read_text())["services"]
    asked = {}
    for job in read("prometheus.yml")["scrape_configs"]:
        for found in job.get("dns_sd_configs", []):
            asked |= dict.fromkeys(found["names"], found["port"])
    assert asked == {"ingress": 8400} | dict.fromkeys(ROLES, 8411)
    for name, port in asked.items():
        assert str(port) in services[name]["expose"]


@pytest.mark.parametrize(
    ("scale", "ingress", "consumers"),
    [
        ("none", [8400], {8411: "all"}),
        (
            "ingress=2 commands=1",
            [8412, 8413],
            {8430: "commands", 8411: ",".join(role for role in ROLES if role != "commands")},
        ),
    ],
    ids=["one of each", "a scale"],
)
def test_prometheus_asks_every_process_of_a_local_stack(
    tmp_path: Path, scale: str, ingress: list[int], consumers: dict[int, str]
) -> None:
    stack = Stack("dev", 8400, tmp_path, variables={})
    stack.keep_scale(read_scale([scale]))
    found = local.targets_of(stack)
    assert [target for group in found["ingress"] for target in group["targets"]] == [f"127.0.0.1:{n}" for n in ingress]
    assert {group["targets"][0]: group["labels"]["role"] for group in found["consumers"]} == {
        f"127.0.0.1:{port}": role for port, role in consumers.items()
    }


# ---- is there a page, and is what it says so?


def pages() -> dict[str, str]:
    return {page.name: page.read_text(encoding="utf-8") for page in sorted(RUNBOOK.glob("*.md"))}


def test_every_alert_has_a_page_and_every_page_an_alert() -> None:
    of_alerts = {Path(alert["annotations"]["runbook_url"]).name for alert in ALERTS.values()}
    assert of_alerts | OTHER_PAGES == set(pages())
    for name, alert in ALERTS.items():
        text = pages()[Path(alert["annotations"]["runbook_url"]).name]
        after = f"after {alert['for']}" if "for" in alert else "at once"
        assert f"- **{name}**: {alert['labels']['severity']}, {after}\n" in text
        assert f"[{name}](" in pages()["README.md"]


def test_every_page_of_an_alert_answers_the_same_questions() -> None:
    for name, text in pages().items():
        if name not in OTHER_PAGES:
            assert re.findall(r"^## (.+)$", text, re.MULTILINE) == SECTIONS, name


def quoted() -> Iterator[tuple[str, str]]:
    """Everything that a page has between backquotes."""
    for name, text in pages().items():
        yield from ((name, word) for word in re.findall(r"`([^`]+)`", text.replace("\n   ", " ").replace("\n  ", " ")))


def known_commands() -> set[str]:
    """Every `boxoffice` command, and every option as `command --option`."""
    found: set[str] = set()

    def walk(command: Any, path: str) -> None:
        found.add(path)
        for parameter in command.params:
            found.update(f"{path} {option}" for option in [*parameter.opts, *parameter.secondary_opts])
        for name, sub in getattr(command, "commands", {}).items():
            walk(sub, f"{path} {name}".strip())

    walk(typer.main.get_command(app), "")
    return found


def unknown_commands(words: str, known: set[str]) -> list[str]:
    """What in `boxoffice …` does not exist."""
    path, missing = "", []
    for word in words.split()[1:]:
        if word.startswith("-"):
            option = f"{path} {word.partition('=')[0]}"
            missing += [] if option in known else [option]
        elif f"{path} {word}".strip() in known:
            path = f"{path} {word}".strip()
        elif not path:
            missing.append(word)  # a word after a command is an argument, the first word is none
    return missing


def test_every_command_that_a_page_names_exists() -> None:
    known = known_commands()
    named = [(page, words) for page, words in quoted() if words.startswith("boxoffice ")]
    assert len(named) > 50
    assert {(page, words): bad for page, words in named if (bad := unknown_commands(words, known))} == {}


@pytest.mark.parametrize("words", ["boxoffice parkin list", "boxoffice parking list --nonsense", "boxoffice lgos -n 5"])
def test_a_command_that_does_not_exist_is_found(words: str) -> None:
    assert unknown_commands(words, known_commands()) != []


def test_every_route_that_a_page_names_exists() -> None:
    paths = json.loads((REPOSITORY / "contracts" / "openapi.json").read_text())["paths"]
    known = {
        f"{method.upper()} {re.sub(r'{[^}]+}', '<id>', path)}" for path, methods in paths.items() for method in methods
    }
    named = {(page, words) for page, words in quoted() if re.match(r"(GET|PUT|POST|DELETE) /", words)}
    assert named
    assert {(page, words) for page, words in named if words not in known} == set()


def test_every_setting_that_a_page_names_exists() -> None:
    known = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields} | {"BOXOFFICE_STACK", "BOXOFFICE_PORT_BASE"}
    named = {word for page, text in pages().items() for word in re.findall(r"\bBOXOFFICE_[A-Z_]+\b", text)}
    assert named - known == set()


def test_every_word_of_the_code_that_a_page_names_is_in_the_code() -> None:
    # Events of the log, metrics, tables, statuses: whoever greps for one must find it.
    code = "\n".join(
        file.read_text(encoding="utf-8")
        for folder in ("contracts", "db", "ingress", "consumers", "rabbitmq", "ops/stack", "ops/prometheus")
        for file in (REPOSITORY / folder).rglob("*")
        if file.suffix in {".py", ".sql", ".lua", ".yml", ".json", ".conf"}
    )
    of_others = {"pg_stat_activity", "pg_wal", "wait_event_type", "pg_blocking_pids", "max_connections"}
    of_others |= {
        "synchronous_commit",
        "aof_last_write_status",
        "used_memory",
        "pg_cancel_backend",
        "pg_terminate_backend",
        "refund_lost",
    }
    words = {
        word
        for page, quote in quoted()
        if page not in OTHER_PAGES
        for word in re.findall(r"^([a-z]+(?:_[a-z]+)+)\b", quote)
    }
    assert {word for word in words - of_others if word not in code} == set()


def test_every_link_between_pages_leads_somewhere() -> None:
    for name, text in pages().items():
        for target in re.findall(r"\]\(([^)#]+)\)", text):
            assert (RUNBOOK / target).exists(), f"{name}: {target}"


def test_every_panel_that_a_page_names_is_on_the_dashboards() -> None:
    panels = {panel.title.split(",")[0] for dashboard in DASHBOARDS for panel in dashboard.panels}
    for name, text in pages().items():
        for title in re.findall(r"panel \*([^*]+)\*", text.replace("\n", " ").replace("   ", " ").replace("  ", " ")):
            assert title.split(",")[0] in panels, f"{name}: {title}"
