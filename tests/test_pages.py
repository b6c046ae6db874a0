"""The written pages against what they speak of: links, sections, event types, keys and verbs that they name exist."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import click
import pytest

from gateway.cli import gateway
from gateway.config import schema
from gateway.contract import documents

ROOT = Path(__file__).resolve().parent.parent
CONTRACT = ROOT / "gateway" / "contract" / "README.md"
LINK = re.compile(r"\]\((?!https?:|mailto:|#)([^)#\s]+)(?:#[^)]*)?\)")
CITED = re.compile(r"contract sections? (\d+)(?:\.\d+)?(?: and (\d+))?")


def tracked(*patterns: str) -> list[Path]:
    """Return the committed files of these patterns."""
    listed = subprocess.run(["git", "ls-files", *patterns], cwd=ROOT, capture_output=True, text=True, check=True)
    return [ROOT / name for name in listed.stdout.split("\n") if name]


def section(number: int) -> str:
    """Return the text of one numbered section of the contract."""
    found = re.search(rf"^## {number}\. .*?(?=^## |\Z)", CONTRACT.read_text(encoding="utf-8"), re.M | re.S)
    assert found, f"the contract has no section {number}"
    return found[0]


@pytest.mark.parametrize("page", tracked("*.md"), ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_of_a_page_leads_to_a_file(page: Path) -> None:
    missing = [
        link for link in LINK.findall(page.read_text(encoding="utf-8")) if not (page.parent / link.strip("<>")).exists()
    ]
    assert not missing


def test_every_section_that_the_code_cites_is_there() -> None:
    cited = {
        int(number)
        for file in tracked("*.py")
        for found in CITED.finditer(file.read_text(encoding="utf-8"))
        for number in found.groups()
        if number
    }
    assert len(cited) > 5
    for number in cited:
        assert section(number)


def test_section_4_has_every_event_type_and_names_every_key() -> None:
    text = section(4)
    rows = "\n".join(line for line in text.splitlines() if line.startswith("| `store."))
    for path, document in documents().items():
        name = path.removeprefix("schemas/v1/").removesuffix(".json")
        if "." not in name:
            continue
        assert f"`store.{name}`" in rows, f"no row for {name}"
        missing = [key for key in document["properties"] if f"`{key}`" not in text]
        assert not missing, f"{name}: {missing}"


def test_section_4_names_no_event_type_that_is_not_there() -> None:
    known = {path.removeprefix("schemas/v1/").removesuffix(".json") for path in documents()}
    named = set(re.findall(r"`store\.([a-z]+\.[a-z_]+)`", section(4)))
    assert named <= known, named - known


def test_section_6_names_every_table_and_only_keys_that_exist() -> None:
    text = section(6)
    for key in re.findall(r"^([a-z_]+) = ", text, re.M):
        assert f'"{key}"' in json.dumps(schema()), f"no such key: {key}"
    for table in ("site", "broker", "outbox", "privacy", "commands", "health"):
        assert f"[{table}]" in text


def test_section_9_names_every_verb() -> None:
    text = section(9)
    verbs = gateway.list_commands(click.Context(gateway))
    assert len(verbs) > 15
    for verb in verbs:
        assert f"`{verb}" in text, f"no row for the verb {verb}"


HOUSE = ("ARCHITECTURE.md", "CONTRIBUTING.md", "README.md", "SECURITY.md", "gateway/outbox/README.md")


@pytest.mark.parametrize("page", HOUSE)
def test_every_path_that_a_page_names_is_there(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:gateway|tests|scripts|hardware|systemd|\.ci)/[A-Za-z0-9_./-]*)`", text))
    missing = [name for name in named if not (ROOT / name).exists()]
    assert len(named) > 3
    assert not missing


def test_the_architecture_has_a_row_for_every_room() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    folders = {path.parent.name for path in (ROOT / "gateway").glob("*/__init__.py")}
    missing = [name for name in sorted(folders) if f"`gateway/{name}/`" not in text]
    assert not missing
