"""Has somebody put a secret into the repository?

Keys of known forms are looked for in every file; whatever looks random or is called a password, by detect-secrets, in files of
configuration, which is where they end up. Placeholders are known by `demo-`, which production refuses to start with.
"""

import json
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

# The forms of keys that open something. In code, everything that merely looks random is an example of ours: hashes, ids.
KEYS = re.compile(
    rb"-----BEGIN (?:[A-Z]+ )?PRIVATE KEY-----"
    rb"|\b(?:sk|rk)_live_[0-9A-Za-z]{16,}"  # Stripe
    rb"|\bwhsec_[0-9A-Za-z+/]{40,}"
    rb"|\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"  # AWS
    rb"|\bgh[pousr]_[0-9A-Za-z]{36,}|\bgithub_pat_\w{40,}|\bglpat-[\w-]{20,}"
    rb"|\bxox[abprs]-[0-9A-Za-z-]{20,}"  # Slack
    rb"|\bSG\.[\w-]{20,}\.[\w-]{30,}"  # SendGrid
    rb"|\bAIza[\w-]{35}\b"  # Google
)
# An address with a password in it that is no placeholder and no test's.
ADDRESS = re.compile(rb"\b[a-z+]+://[^\s/:@'\"{}<>]*:(?P<password>[^\s/@'\"{}<>]+)@[^\s'\"]+")
PLACEHOLDER = re.compile(rb"demo-.*|\$.*|\*+")

CONFIGURATION = re.compile(r"\.(env|ya?ml|toml|conf|ini|cfg|service|example|sh|json)$|(^|/)(Makefile|Dockerfile)$")
# Made from code that a test compares them with, or lists of hashes.
MADE = re.compile(
    r"^(contracts/.*\.json|rabbitmq/definitions\.json|ops/locks/|ops/doctor/schema\.json|ops/dashboards/|tests/)"
)
# Tests have addresses with passwords of nobody.
WITHOUT_ADDRESSES = re.compile(r"^tests/")
# What detect-secrets takes for one and is none: placeholders, names of secrets, and what is read from elsewhere.
NO_SECRET = re.compile(r"demo-|secretName|\$\{|\$\(")


def files_of(folder: Path) -> list[str]:
    """What is committed, or would be."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    return sorted({name for name in listed.stdout.splitlines() if (folder / name).is_file()})


def leaks_in(folder: Path, names: Iterable[str] | None = None) -> list[str]:
    """Each as `file:line: what it looks like`; never the secret itself."""
    chosen = list(names) if names is not None else files_of(folder)
    found = [f"{name}:{line}: {what}" for name in chosen for line, what in _keys_in(folder / name, name)]
    suspects = [name for name in chosen if CONFIGURATION.search(name) and not MADE.search(name)]
    return sorted({*found, *_suspects_in(folder, suspects)})


def _keys_in(path: Path, name: str) -> Iterator[tuple[int, str]]:
    content = path.read_bytes()
    for match in KEYS.finditer(content):
        yield content.count(b"\n", 0, match.start()) + 1, "a key"
    if WITHOUT_ADDRESSES.search(name):
        return
    for match in ADDRESS.finditer(content):
        if not PLACEHOLDER.fullmatch(match["password"]):
            yield content.count(b"\n", 0, match.start()) + 1, "an address with a password"


def _suspects_in(folder: Path, names: list[str]) -> Iterator[str]:
    if not names:
        return
    done = subprocess.run(
        [sys.executable, "-m", "detect_secrets", "scan", "--no-verify", *names],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    for name, findings in json.loads(done.stdout)["results"].items():
        lines = (folder / name).read_text(encoding="utf-8").splitlines()
        for finding in findings:
            if not NO_SECRET.search(lines[finding["line_number"] - 1]):
                yield f"{name}:{finding['line_number']}: {finding['type'].lower()}"
