"""The Python examples of docs/api-messages.md and docs/api-responses.md run as they stand."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import pytest

from tests.support.served import Served

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize(
    ("name", "n_lines"), [("api-messages.md", 1), ("api-responses.md", 2)], ids=str
)
def test_the_example_runs_and_prints_an_answer(served: Served, name: str, n_lines: int) -> None:
    text = (DOCS / name).read_text(encoding="utf-8")
    (example,) = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert "http://127.0.0.1:11435" in example
    printed = io.StringIO()
    scope: dict = {}
    with contextlib.redirect_stdout(printed):
        exec(example.replace("http://127.0.0.1:11435", served.url), scope)
    scope["client"].close()
    assert len(printed.getvalue().strip().splitlines()) >= n_lines
