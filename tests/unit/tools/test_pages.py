"""Pages that list what is elsewhere in the tree list all of it."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def test_every_case_of_the_page_has_its_tests_and_every_number_in_a_name_is_on_it() -> None:
    rows = re.findall(r"(?m)^\| (\d+) \|.*\| (.*) \|$", (ROOT / "docs/upstream-cases.md").read_text())
    told = {(int(number), file) for number, files in rows for file in re.findall(r"`(\S+)`", files)}
    assert len(rows) > 20
    for _, file in told:
        assert (ROOT / "tests" / f"{file}.py").exists(), file
    found = set[tuple[int, str]]()
    for path in (ROOT / "tests").rglob("test_*.py"):
        for numbers in re.findall(r"(?m)^def test_(\d\d?(?:_\d\d?)*)_", path.read_text()):
            file = path.relative_to(ROOT / "tests").with_suffix("")
            found |= {(int(number), str(file)) for number in numbers.split("_")}
    assert found and found <= told, found - told


def test_every_decision_is_listed_by_its_title() -> None:
    folder = ROOT / "docs/adr"
    titles = {path: path.read_text().partition("\n")[0].removeprefix("# ") for path in sorted(folder.glob("0*.md"))}
    assert len(titles) > 10
    wanted = [f"{title.replace('. ', '. [', 1)}]({path.name})" for path, title in titles.items()]
    listed = [line for line in (folder / "README.md").read_text().splitlines() if line[:1].isdigit()]
    assert listed == wanted


def test_links_between_pages_lead_somewhere() -> None:
    for page in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md")):
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.relative_to(ROOT)}: {target}"
