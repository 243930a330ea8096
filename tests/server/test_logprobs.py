"""Log-probabilities in OpenAI's two shapes."""

from __future__ import annotations

import math

import pytest

from shimmy.engine.types.event import Candidate, TokenLogprob
from shimmy.server.dialects.logprobs import LegacyLogprobs, chat_logprobs

A = TokenLogprob(5, b"a", -0.5, [Candidate(5, b"a", -0.5), Candidate(6, b" b", -1.5)])
HALF = TokenLogprob(7, b"\xc3", -math.inf, [Candidate(8, b"\xa9", -0.1)])
REST = TokenLogprob(8, b"\xa9", -0.25)
FIRST = TokenLogprob(1, b"<s>", None)


def test_the_chats_shape_has_bytes_and_no_infinity():
    assert chat_logprobs([A, HALF]) == {
        "content": [
            {
                "token": "a",
                "logprob": -0.5,
                "bytes": [97],
                "top_logprobs": [
                    {"token": "a", "logprob": -0.5, "bytes": [97]},
                    {"token": " b", "logprob": -1.5, "bytes": [32, 98]},
                ],
            },
            {
                "token": "\ufffd",
                "logprob": -9999.0,
                "bytes": [0xC3],
                "top_logprobs": [{"token": "\ufffd", "logprob": -0.1, "bytes": [0xA9]}],
            },
        ],
        "refusal": None,
    }


def test_the_legacy_shape_has_four_lists_of_one_length():
    """2.2: clients read tokens, token_logprobs, top_logprobs, text_offset side by side."""
    assert LegacyLogprobs().of([A, HALF, REST, A]) == {
        "tokens": ["a", "bytes:\\xc3", "bytes:\\xa9", "a"],
        "token_logprobs": [-0.5, -9999.0, -0.25, -0.5],
        "top_logprobs": [
            {"a": -0.5, " b": -1.5},
            {"bytes:\\xa9": -0.1, "bytes:\\xc3": -9999.0},
            {"bytes:\\xa9": -0.25},
            {"a": -0.5, " b": -1.5},
        ],
        # é is one character, of two tokens
        "text_offset": [0, 1, 2, 2],
    }


def test_the_first_token_of_an_echoed_prompt_has_no_logprob():
    shape = LegacyLogprobs().of_prompt("a", [FIRST, A])
    assert shape["token_logprobs"] == [None, -0.5]
    assert shape["top_logprobs"][0] is None


def test_offsets_go_on_after_the_prompt():
    shape = LegacyLogprobs()
    # the beginning-of-text token is no part of the prompt's text
    assert shape.of_prompt("aé", [FIRST, A, HALF, REST])["text_offset"] == [0, 0, 1, 2]
    assert shape.of([A, A])["text_offset"] == [2, 3]
    assert shape.of([A])["text_offset"] == [4]


@pytest.mark.parametrize("text", ["word a", " word a"])
def test_a_space_that_the_vocabulary_puts_in_front_is_not_counted(text):
    shape = LegacyLogprobs()
    word = TokenLogprob(9, b" word", -1.0)
    offsets = shape.of_prompt(text, [word, TokenLogprob(6, b" a", -1.0)])["text_offset"]
    assert offsets == [0, len(text) - 2]
