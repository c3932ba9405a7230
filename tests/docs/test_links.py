"""Links between the pages lead somewhere, and every page is found from another one."""

import re
from pathlib import Path

import pytest

from embedded.platform import ROOT
from tests.docs.pages import PAGES, anchors, name_of, prose

LINK = re.compile(r"\]\((?!https?://|mailto:)([^)\s]+)\)")
DECISIONS = ROOT / "docs" / "adr"
PACKAGES = (
    *("activities", "audit", "benchmarks", "chassis", "cli", "console", "contracts", "deploy", "embedded", "gateway"),
    *("services", "simulators", "temporal", "testing", "tests", "workflows"),
)


def links(page: Path) -> list[tuple[Path, str]]:
    """File and anchor of each link of a page."""
    found = [link.partition("#") for link in LINK.findall(prose(page))]
    return [((page.parent / file).resolve() if file else page, anchor) for file, _, anchor in found]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    for file, anchor in links(page):
        assert file.exists(), f"{file.relative_to(ROOT)} is not there"
        assert not anchor or anchor in anchors(file), f"{name_of(file)} has no heading #{anchor}"


def test_every_page_is_found_from_another_one() -> None:
    linked = {file for page in PAGES for file, _ in links(page) if file != page}
    lost = {name_of(page) for page in PAGES if page not in linked}
    assert lost <= {"README.md"}


def test_the_list_of_decisions_is_complete_and_in_order() -> None:
    listed = re.findall(r"^\| \[(\d{4})\]\(([^)]+)\) \| .+ \|$", (DECISIONS / "README.md").read_text(), re.MULTILINE)
    assert [file for _, file in listed] == sorted(file.name for file in DECISIONS.glob("0*.md"))
    assert all(file.startswith(f"{number}-") for number, file in listed)


def test_a_decision_has_the_number_that_its_file_has() -> None:
    for file in DECISIONS.glob("0*.md"):
        assert file.read_text().startswith(f"# {int(file.name[:4])}. "), file.name


def test_pages_that_code_and_configuration_name_are_there() -> None:
    named = re.compile(r"\bdocs/[\w/-]+\.md(?:#[\w-]+)?")
    files = [file for name in PACKAGES for file in (ROOT / name).rglob("*") if file.suffix in (".py", ".yaml", ".yml", ".sh")]
    for file in [*files, ROOT / "docker-compose.yml", ROOT / "Makefile", ROOT / "worker.py"]:
        for link in named.findall(file.read_text()):
            page, _, anchor = link.partition("#")
            assert (ROOT / page).exists(), f"{file.relative_to(ROOT)} names {page}"
            assert not anchor or anchor in anchors(ROOT / page), f"{file.relative_to(ROOT)} names {link}"
