"""One template, several threads: what jinja-filter-lent.patch is for. llama.cpp took a filter block's filter away while it rendered."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from shimmy.errors import InvalidRequestError, LlamaError
from shimmy.llama import Model
from shimmy.llama.chat import ChatTemplate

TALK = json.dumps({"messages": [{"role": "user", "content": "hi"}]}).encode()
BLOCK = "{% for m in messages %}{{ m.content }}{% endfor %}{% endfilter %}"
BEGIN = "{% if add_generation_prompt %}>{% endif %}"


def test_threads_render_the_same_filter_block_at_once(model: Model) -> None:
    with (
        ChatTemplate(model, "{% filter upper %}" + BLOCK + BEGIN) as template,
        ThreadPoolExecutor(4) as threads,
    ):
        texts = threads.map(lambda _: template.render(TALK).prompt, range(4000))
        assert set(texts) == {"HI>"}


def test_a_filter_block_that_failed_fails_in_the_same_way_again(model: Model) -> None:
    with ChatTemplate(model, "{% filter nosuch %}" + BLOCK + BEGIN) as template:
        said = []
        for _ in range(3):
            with pytest.raises((InvalidRequestError, LlamaError), match="nosuch") as caught:
                template.render(TALK)
            said.append(str(caught.value))
        assert len(set(said)) == 1
