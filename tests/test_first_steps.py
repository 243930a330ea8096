"""docs/first-steps.md says what its commands print."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from tests.support.walk import ROOT, walked

PAGE = ROOT / "docs/first-steps.md"


@pytest.mark.skipif(shutil.which("curl") is None, reason="the page asks with curl")
def test_the_first_steps_print_what_the_page_says(tmp_path: Path) -> None:
    """If the page is old: `.venv/bin/python -m tests.support.walk docs/first-steps.md`."""
    page = PAGE.read_text(encoding="utf-8")
    assert walked(page, tmp_path) == page


def test_the_page_has_the_whole_walk() -> None:
    commands = re.findall(
        r"^\$ (?:shimmy )?([\w-]+)", PAGE.read_text(encoding="utf-8"), re.MULTILINE
    )
    assert {"list", "recommend", "pull", "serve", "inspect", "curl"} <= set(commands)
