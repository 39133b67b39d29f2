"""The pages of docs/datasets: one for each source, with its licence, commands and skip reasons."""

import ast
import re
from pathlib import Path

import pytest

from ucn.preprocessing.shards.card import ORIGINS
from ucn.preprocessing.sources.registry import SOURCES

ROOT = Path(__file__).parents[2]
INDEX = (ROOT / "docs" / "datasets.md").read_text()
PAGES = {path.name: path.read_text() for path in sorted((ROOT / "docs" / "datasets").glob("*.md"))}


def sources_of(page: str) -> list[str]:
    """Sources that the first line of a page names."""
    return re.findall(r"`([a-z-]+)`", PAGES[page].splitlines()[0])


def test_every_source_has_one_page_that_the_index_links() -> None:
    titles = [source for page in PAGES for source in sources_of(page)]
    assert sorted(titles) == sorted(SOURCES.builtin)
    assert set(re.findall(r"\(datasets/([a-z-]+\.md)\)", INDEX)) == PAGES.keys()


@pytest.mark.parametrize("page", PAGES)
def test_a_page_answers_the_same_questions(page: str) -> None:
    text = PAGES[page]
    rows = re.findall(r"^\| (Where|Licence|Download) \| \S", text, re.MULTILINE)
    assert rows == ["Where", "Licence", "Download"]
    headings = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert headings == ["Folder", "Command", "Skipped inputs", "Pairs and matches"]
    for source in sources_of(page):
        assert f"\nucn preprocess {source} " in text
        # The card names the same homepage.
        assert ORIGINS[source].homepage in text


def test_every_reason_to_skip_is_explained() -> None:
    reasons = {
        node.args[0].value
        for folder in ("preprocessing", "src/ucn/images")
        for path in (ROOT / folder).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "SkippedPair"
        if isinstance(node.args[0], ast.Constant)
    }
    assert len(reasons) > 20
    explained = re.findall(r"^- `([a-z0-9 ]+)`: ", "\n".join([INDEX, *PAGES.values()]), re.M)
    assert reasons - set(explained) == set()


def test_links_between_pages_lead_to_files() -> None:
    for place, text in [(".", INDEX), *(("datasets", page) for page in PAGES.values())]:
        for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
            assert (ROOT / "docs" / place / link).exists(), link
