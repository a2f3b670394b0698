"""`make supply-chain`: what are we made of, is anything in it dangerous, and has somebody committed a secret?

Everything here works without the network; `--audit` asks a public service which of the locked packages have known holes. When
that cannot be reached, it says so and goes on, unless STRICT=1.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from ops.supply_chain.leaks import leaks_in
from ops.supply_chain.packages import LOCK, REPOSITORY, packages, refused

BILL = REPOSITORY / "build" / "sbom.json"
CODE = ("contracts", "ingress", "consumers", "db", "ops")
TOOL_SECONDS = 300
# Of 2010, with holes that every advisory service has known for years.
HAS_HOLES = "jinja2==2.4.1"
FOUND = "known vulnerabilit"
# What pip-audit says when it has asked nobody, as opposed to having found something.
UNREACHABLE = (
    "ConnectionError",
    "Max retries",
    "ServiceError",
    "Temporary failure",
    "timed out",
    "Connection refused",
    "ProxyError",
)


class Problem(Exception):
    """Something a person has to look at."""


def bill_of_materials(path: Path = BILL) -> str:
    """CycloneDX, of the locked packages with their hashes; twice the same lock is twice the same file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    words = ["--pyproject", "pyproject.toml", "--output-reproducible", "--of", "JSON", "-o", str(path), str(LOCK)]
    done = _run("-W", "ignore", "-m", "cyclonedx_py", "requirements", *words)
    if done.returncode:
        raise Problem(done.stderr.strip())
    return f"{path.relative_to(REPOSITORY) if path.is_relative_to(REPOSITORY) else path}"


def licences() -> str:
    """Only those that may be shipped with a program under Apache-2.0."""
    found = packages()
    if unknown := list(refused(found)):
        raise Problem("licences that nobody has looked at:\n" + "\n".join(unknown))
    counts = Counter(package.licence.split(" ")[0].lower() for package in found if package.licence)
    return f"{len(found)} packages: " + ", ".join(f"{count} {name}" for name, count in counts.most_common(4)) + " …"


def weaknesses() -> str:
    """bandit, with what pyproject.toml says of it."""
    done = _run("-m", "bandit", "--quiet", "--configfile", "pyproject.toml", "--recursive", *CODE)
    if done.returncode:
        raise Problem(done.stdout.strip())
    return "none in " + ", ".join(CODE)


def leaks() -> str:
    """No secret in any file that is committed."""
    if found := leaks_in(REPOSITORY):
        raise Problem("\n".join(found))
    return "none"


def known_holes(lock: Path = LOCK) -> str:
    """Asks the Python Packaging Advisory Database about each package of the lock."""
    if why := _cannot_be_asked():
        if os.environ.get("STRICT") == "1":
            raise Problem(f"STRICT=1 wants an answer, and {why}")
        return f"NOT ASKED: {why}"
    found, said = _ask_about(lock)
    if found:
        raise Problem(said)
    return f"none known of {len(packages(lock))} packages"


def _cannot_be_asked() -> str:
    """Why an answer would mean nothing; empty when it would.

    A mirror of the package index may answer without any advisories, and everything would look well. So it is first asked about
    a package that has holes.
    """
    with tempfile.TemporaryDirectory() as folder:
        canary = Path(folder) / "canary.txt"
        canary.write_text(f"{HAS_HOLES} --hash=sha256:{'0' * 64}\n", encoding="utf-8")
        found, said = _ask_about(canary)
    if found:
        return ""
    last = said.splitlines()[-1] if said else "it said nothing"
    if any(word in said for word in UNREACHABLE):
        return f"the service cannot be reached ({last[:160]})"
    return f"the service knows of no hole in {HAS_HOLES}, which has some: a mirror without advisories? ({last[:160]})"


def _ask_about(lock: Path) -> tuple[bool, str]:
    """Whether holes are known, and what pip-audit said."""
    done = _run("-m", "pip_audit", "--disable-pip", "--require-hashes", "--progress-spinner", "off", "-r", str(lock))
    said = (done.stdout + done.stderr).strip()
    return done.returncode != 0 and FOUND in said, said


STEPS: tuple[tuple[str, Callable[[], str]], ...] = (
    ("bill of materials", bill_of_materials),
    ("licences", licences),
    ("weaknesses", weaknesses),
    ("secrets", leaks),
)
AUDIT = ("known holes", known_holes)


def main() -> int:
    """Each step, all of them, whatever the others find."""
    steps = [*STEPS, AUDIT] if "--audit" in sys.argv[1:] else STEPS
    failed = False
    for title, step in steps:
        begun_at = time.monotonic()
        try:
            said, mark = step(), "✓"
        except Problem as problem:
            said, mark, failed = str(problem), "✗", True
        print(f"{mark} {title} ({time.monotonic() - begun_at:.1f} s): {said}", flush=True)
    return int(failed)


def _run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words], cwd=REPOSITORY, capture_output=True, text=True, timeout=TOOL_SECONDS, check=False
    )


if __name__ == "__main__":
    sys.exit(main())
