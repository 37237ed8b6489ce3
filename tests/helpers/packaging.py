"""What pyproject.toml declares."""

import re
import sys

from tests.helpers.paths import ROOT

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def project() -> dict:
    """The table [project] of pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def required(extra: str | None = None) -> set[str]:
    """Names of the distributions that an installation requires, or that an extra adds, those of other extras included."""
    table = project()
    found = set()
    for line in table["optional-dependencies"][extra] if extra else table["dependencies"]:
        name, others = re.match(r"([\w.-]+)(?:\[([\w,-]+)\])?", line).groups()
        if name == table["name"]:
            found.update(*map(required, others.split(",")))
        else:
            found.add(name)
    return found
