"""Are secrets, strange licences and known holes found where there are any, and is the bill of materials the same twice?

`make supply-chain` looks at the repository itself; here it is shown that it would find something.
"""

import json
import subprocess
from pathlib import Path

import pytest

from ops.supply_chain import __main__ as supply_chain
from ops.supply_chain.leaks import leaks_in
from ops.supply_chain.packages import LOCK, Package, packages, refused

# In pieces, so that nobody takes this file for a leak.
STRIPE = "sk_" + "live_" + "51H8xYqLkFzVbN2mT7cRdWpGa"
AMAZON = "AKIA" + "IOSFODNN7QWERTYU"
PRIVATE = "-----BEGIN " + "RSA PRIVATE KEY-----"
ADDRESS = "postgresql://boxoffice:" + "hunter2hunter2" + "@db.internal/boxoffice"
RANDOM = "Zm9yIHRoaXMg" + "dGVzdCBvbmx5IGFuZCBubyBvdGhlcg"


@pytest.mark.parametrize(
    ("name", "line", "what"),
    [
        ("consumers/payments/gateway.py", f'KEY = "{STRIPE}"', "a key"),
        ("README.md", f"export AWS_ACCESS_KEY_ID={AMAZON}", "a key"),
        ("ops/nginx/key.pem", PRIVATE, "a key"),
        ("ops/verify.py", f'URL = "{ADDRESS}"', "an address with a password"),
        ("tests/unit/test_x.py", f'KEY = "{STRIPE}"', "a key"),
        ("ops/kubernetes/production/secrets.env", f"BOXOFFICE_SIGNING_KEY_SECRET={RANDOM}", "secret"),
        ("docker-compose.yml", f"  password: '{RANDOM}'", "secret"),
    ],
    ids=["stripe", "amazon", "private-key", "address", "in-a-test", "environment", "compose"],
)
def test_a_planted_secret_is_found_and_not_repeated(tmp_path: Path, name: str, line: str, what: str) -> None:
    planted = tmp_path / name
    planted.parent.mkdir(parents=True, exist_ok=True)
    planted.write_text(f"# harmless\n{line}\n")
    found = leaks_in(tmp_path, [name])
    assert any(each.startswith(f"{name}:2: ") and what in each for each in found), found
    assert not any(secret in each for each in found for secret in (STRIPE, AMAZON, "hunter2", RANDOM))


def test_a_file_that_is_not_committed_yet_is_looked_at(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    (tmp_path / ".gitignore").write_text("ignored/\n")
    (tmp_path / "ignored").mkdir()
    (tmp_path / "ignored" / "a.py").write_text(STRIPE)
    (tmp_path / "new.py").write_text(STRIPE)
    assert leaks_in(tmp_path) == ["new.py:1: a key"]


def test_placeholders_are_no_secrets(tmp_path: Path) -> None:
    (tmp_path / "a.env").write_text(ADDRESS.replace("hunter2hunter2", "demo-password") + "\n")
    assert leaks_in(tmp_path, ["a.env"]) == []


def test_the_licence_of_every_package_is_known() -> None:
    found = packages()
    assert len(found) > 40
    assert list(refused(found)) == []
    assert [package.name for package in found if package.licence is None] == ["async-timeout", "colorama"], (
        "what other systems and older interpreters need is not installed here; everything else is"
    )


@pytest.mark.parametrize("licence", ["GPL-3.0-only", "AGPL-3.0", "", "MIT AND GPL-2.0", "Proprietary"])
def test_a_licence_that_nobody_has_looked_at_is_seen(licence: str) -> None:
    assert len(list(refused([Package("strange", "1.0", licence)]))) == 1
    assert list(refused([Package("usual", "1.0", "Apache-2.0 OR BSD-3-Clause")])) == []


@pytest.mark.slow  # four seconds of a core, twice
def test_the_bill_of_materials_is_that_of_the_lock_and_the_same_twice(tmp_path: Path) -> None:
    for name in ("one.json", "two.json"):
        supply_chain.bill_of_materials(tmp_path / name)
    text = (tmp_path / "one.json").read_text()
    assert text == (tmp_path / "two.json").read_text()
    bill = json.loads(text)
    assert bill["bomFormat"] == "CycloneDX"
    assert {(each["name"], each["version"]) for each in bill["components"]} == {(p.name, p.version) for p in packages()}
    assert all(each["externalReferences"][0]["hashes"] for each in bill["components"]), "a package without a hash"


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[bool, str]]:
    """What the advisory service says, by the file it is asked about."""
    said: dict[str, tuple[bool, str]] = {}
    monkeypatch.setattr(supply_chain, "_ask_about", lambda lock: said[lock.name])
    monkeypatch.delenv("STRICT", raising=False)
    return said


def test_known_holes_are_a_problem(service: dict[str, tuple[bool, str]]) -> None:
    service["canary.txt"] = (True, "Found 9 known vulnerabilities in 1 package")
    service[LOCK.name] = (True, "Found 1 known vulnerability in 1 package")
    with pytest.raises(supply_chain.Problem, match="Found 1 known"):
        supply_chain.known_holes()
    service[LOCK.name] = (False, "No known vulnerabilities found")
    assert supply_chain.known_holes().startswith("none known of")


@pytest.mark.parametrize(
    ("said", "words"),
    [("requests.exceptions.ProxyError: refused", "cannot be reached"), ("No known vulnerabilities found", "a mirror")],
    ids=["unreachable", "mirror"],
)
def test_a_service_that_cannot_answer_is_not_taken_for_good_news(
    service: dict[str, tuple[bool, str]], monkeypatch: pytest.MonkeyPatch, said: str, words: str
) -> None:
    service["canary.txt"] = (False, said)
    service[LOCK.name] = (False, "No known vulnerabilities found")
    assert supply_chain.known_holes().startswith("NOT ASKED")
    assert words in supply_chain.known_holes()
    monkeypatch.setenv("STRICT", "1")
    with pytest.raises(supply_chain.Problem, match="STRICT=1"):
        supply_chain.known_holes()
