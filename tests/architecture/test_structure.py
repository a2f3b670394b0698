"""Do the rules about structure hold that style.md asks for? Each is a test, because a rule nobody runs is a wish."""

import ast
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from consumers.event_commands.handlers import HANDLERS
from contracts.commands import COMMAND_TYPES, Command
from contracts.rejections import WHAT_TO_DO, RejectionCode
from contracts.settings import Settings
from db.named_queries import queries
from ingress.responses import STATUS_OF_REJECTION

ROOT = Path(__file__).parents[2]
PACKAGES = ("contracts", "ingress", "consumers", "db", "ops")

# A role is no subject: what such a file is about, nobody can say.
FORBIDDEN_NAMES = {
    "util",
    "utils",
    "helper",
    "helpers",
    "common",
    "manager",
    "service",
    "services",
    "core",
    "models",
    "misc",
}

# Named by nobody yet; whoever gives them a use takes them out of here.
CODES_TO_COME: set[RejectionCode] = set()


DOCUMENTED = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def modules(*packages: str) -> list[Path]:
    """The Python files of these packages."""
    return sorted(file for package in packages for file in (ROOT / package).rglob("*.py"))


def name_of(file: Path) -> str:
    """Its path in the repository."""
    return file.relative_to(ROOT).as_posix()


@cache
def parsed(file: Path) -> ast.Module:
    """The module's syntax tree."""
    return ast.parse(file.read_text(encoding="utf-8"))


def texts_in(file: Path) -> Iterator[str]:
    """Every text literal of the module that is no docstring."""
    documented = [n for n in ast.walk(parsed(file)) if isinstance(n, (ast.Module, *DOCUMENTED))]
    docstrings = {id(n.body[0].value) for n in documented if n.body and isinstance(n.body[0], ast.Expr)}
    for node in ast.walk(parsed(file)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node.value


# ---- one word, the whole path


@pytest.mark.parametrize("kind", COMMAND_TYPES, ids=lambda kind: kind.__name__)
def test_every_command_has_a_rule_and_is_called_the_same_everywhere(kind: type[Command]) -> None:
    snake_case = re.sub(r"(?<!^)(?=[A-Z])", "_", kind.__name__).lower()
    assert kind.model_fields["type"].default == snake_case
    assert HANDLERS[kind].__name__ in (f"decide_{snake_case}", "decide_not_offered")


def test_there_is_no_rule_for_what_cannot_be_asked() -> None:
    assert set(HANDLERS) == set(COMMAND_TYPES)


@pytest.mark.parametrize("code", RejectionCode)
def test_every_refusal_has_a_status_an_advice_and_somebody_who_gives_it(code: RejectionCode) -> None:
    assert code in STATUS_OF_REJECTION
    assert WHAT_TO_DO[code].endswith(".")
    tables = {ROOT / "ingress" / "responses.py"}
    named_in = [
        name_of(file)
        for file in modules("consumers", "ingress")
        if file not in tables and re.search(rf"\bRejectionCode\.{code.name}\b", file.read_text(encoding="utf-8"))
    ]
    assert bool(named_in) is (code not in CODES_TO_COME), named_in


# ---- SQL and keys in one place

SQL = re.compile(r"\bSELECT\b.+\bFROM\b|\bINSERT\s+INTO\b|\bUPDATE\s+\w+\s+SET\b|\bDELETE\s+FROM\b", re.DOTALL)
REDIS_KEY = re.compile(r"\b(seat_lock|session|rate):")


@pytest.mark.parametrize("file", sorted((ROOT / "db" / "sql").glob("*.sql")), ids=lambda file: file.stem)
def test_every_statement_is_used(file: Path) -> None:
    users = [module for module in modules("db") if f'queries("{file.stem}")' in module.read_text(encoding="utf-8")]
    assert len(users) == 1, f"{file.name} belongs to one module, and it is used by {[name_of(user) for user in users]}"
    code = users[0].read_text(encoding="utf-8")
    unused = [name for name in vars(queries(file.stem)) if not re.search(rf"\b_?(sql|SQL)\.{name}\b", code)]
    assert unused == []


def test_every_lua_script_is_used() -> None:
    code = "".join(module.read_text(encoding="utf-8") for module in modules("db", "ingress"))
    unused = [file.stem for file in (ROOT / "db" / "lua").glob("*.lua") if f'Script("{file.stem}"' not in code]
    assert unused == []


def test_no_sql_and_no_redis_key_outside_db() -> None:
    strangers = [
        f"{name_of(file)}: {text}"
        for file in modules("contracts", "ingress", "consumers", "ops")
        for text in texts_in(file)
        if SQL.search(text) or REDIS_KEY.search(text)
    ]
    assert strangers == []


@pytest.mark.parametrize(
    "text", ["SELECT 1\n  FROM seats", "INSERT INTO seats", "UPDATE seats SET a = 1", "DELETE FROM seats"]
)
def test_the_check_for_sql_sees_sql(text: str) -> None:
    assert SQL.search(text)


def test_the_check_for_keys_sees_keys() -> None:
    assert REDIS_KEY.search("seat_lock:{e}:1")
    assert REDIS_KEY.search("session:{u:1}:2")


# ---- who reads the environment


def test_only_programs_read_the_environment() -> None:
    read_in = {
        name_of(file)
        for file in modules("contracts", "ingress", "consumers", "db")
        if any(
            isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv") for node in ast.walk(parsed(file))
        )
        or re.search(r"from os import .*(environ|getenv)", file.read_text(encoding="utf-8"))
    }
    programs = {name for name in read_in if '__name__ == "__main__"' in (ROOT / name).read_text(encoding="utf-8")}
    assert programs, "this check has become blind"
    assert read_in - programs == set(), "take it from Settings"


def test_every_setting_has_a_default() -> None:
    assert [name for name, field in Settings.model_fields.items() if field.is_required()] == []


# ---- names and words


def test_files_and_folders_are_named_after_a_subject() -> None:
    named_after_a_role = [
        name_of(file)
        for file in modules(*PACKAGES, "tests")
        if FORBIDDEN_NAMES & {word for part in file.relative_to(ROOT).with_suffix("").parts for word in part.split("_")}
    ]
    assert named_after_a_role == []


def test_every_module_says_what_it_is_about() -> None:
    files = [file for file in modules(*PACKAGES, "tests") if file.stat().st_size]
    silent = [name_of(file) for file in files if not ast.get_docstring(parsed(file))]
    assert silent == [], "the docstring is the question the file answers"


def test_everything_public_says_what_it_is() -> None:
    silent = [
        f"{name_of(file)}:{node.lineno} {node.name}"
        for file in modules(*PACKAGES)
        for node in parsed(file).body
        if isinstance(node, DOCUMENTED) and not node.name.startswith("_") and not ast.get_docstring(node)
    ]
    assert silent == []


# ---- who imports whom


def test_the_import_rules_hold() -> None:
    lint = shutil.which("lint-imports", path=str(Path(sys.executable).parent))
    assert lint, "import-linter is one of the development dependencies"
    said = subprocess.run([lint, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stdout


# ---- what must not be in a repository

# In pieces, so that this file does not name what it looks for.
MACHINE_PATHS = re.compile("|".join(["/" + "work/", "/" + "home/" + r"[a-z]", "/" + "root/", "/" + "Users/"]))
PACKAGE_INDEXES = re.compile("|".join(["py" + r"pi\.org", "files" + r"\.pythonhosted", "registry" + r"\.npmjs"]))


@cache
def texts_of_repository() -> dict[str, str]:
    """Every text file that is or would be committed, by its path."""
    git = shutil.which("git")
    if git is None or not (ROOT / ".git").exists():
        pytest.skip("this is no checkout")
    words = [git, "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return {name: text for name in listed.split("\0") if name and (text := _text_of(ROOT / name)) is not None}


def _text_of(file: Path) -> str | None:
    try:
        return file.read_text(encoding="utf-8")
    except (UnicodeDecodeError, FileNotFoundError, IsADirectoryError):
        return None


@pytest.mark.parametrize(
    ("what", "pattern"), [("a path of somebody's machine", MACHINE_PATHS), ("a package index", PACKAGE_INDEXES)]
)
def test_no_file_names(what: str, pattern: re.Pattern[str]) -> None:
    named = [
        f"{name}:{number}: {line.strip()}"
        for name, text in texts_of_repository().items()
        for number, line in enumerate(text.splitlines(), start=1)
        if pattern.search(line)
    ]
    assert named == [], f"{what} is named"


def test_the_check_of_files_looks_at_all_of_them() -> None:
    names = texts_of_repository().keys()
    assert {"pyproject.toml", "db/sql/sale.sql", "docker-compose.yml", name_of(Path(__file__))} <= names
    assert MACHINE_PATHS.search("/" + "work/main")
    assert PACKAGE_INDEXES.search("https://" + "py" + "pi.org/simple")
