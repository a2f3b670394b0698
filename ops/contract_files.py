"""`python -m ops.contract_files`: write what we promise to others into contracts/, and what follows from the code into ops/
(settings, metrics, dashboards), or `--check` that it is written.

The files are made from the code and committed, so that a change of the contract shows in the diff of the change.
"""

import json
import sys
from difflib import unified_diff
from pathlib import Path
from typing import Any

from contracts.asyncapi import asyncapi_document
from contracts.settings import Settings
from ingress.app import create_app
from ingress.openapi import openapi_document
from ops import metrics_page
from ops.dashboards import files as dashboards
from ops.settings_page import PAGE, settings_page

FOLDER = Path(__file__).parents[1] / "contracts"
DIFF_LINES_MAX = 60


def documents() -> dict[Path, str]:
    """What should be in which file."""
    app = create_app(Settings())
    app.router.finalize()
    return {
        FOLDER / "openapi.json": written(openapi_document(app)),
        FOLDER / "asyncapi.json": written(asyncapi_document()),
        metrics_page.FILE: metrics_page.page(),
        PAGE: settings_page(),
        **{dashboards.file_of(one): dashboards.text_of(one) for one in dashboards.DASHBOARDS},
    }


def written(document: dict[str, Any]) -> str:
    """The document as it stands in the repository: one member a line, so that a diff shows what changed."""
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def differences() -> list[str]:
    """In what the files and the code disagree, as the first lines of a diff; empty when they agree."""
    found: list[str] = []
    for file, expected in documents().items():
        present = file.read_text(encoding="utf-8") if file.exists() else ""
        found += unified_diff(present.splitlines(), expected.splitlines(), file.name, "made from the code", lineterm="")
    return found[:DIFF_LINES_MAX]


def main() -> None:
    """Write the files, or say in what they are behind."""
    if "--check" in sys.argv[1:]:
        found = differences()
        sys.exit("\n".join([*found, "", "not current: run `make contracts`"]) if found else 0)
    for file, text in documents().items():
        file.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
