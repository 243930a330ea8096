from __future__ import annotations

import gguf
import pytest

from shimmy.errors import InvalidRequestError
from shimmy.llama import Batch, Context, DecodeStatus, Model, TokenAttr, VocabType
from tests.support.tiny_gguf import SPECIALS, token_id, vocabulary

TEXTS = ["", "the quick fox", "käse 🧀 \x00 tab\t\n", "<|im_end|>", "a" * 5000, " ", "日本語"]


@pytest.mark.parametrize("text", TEXTS)
def test_text_goes_there_and_back(model: Model, text: str) -> None:
    tokens = model.vocab.tokenize(text)
    assert model.vocab.detokenize(tokens) == text
    assert b"".join(model.vocab.token_to_piece(token) for token in tokens).decode() == text


def test_merges_are_used(model: Model) -> None:
    assert len(model.vocab.tokenize(" the quick fox")) < 5


def test_special_tokens_are_read_only_on_request(model: Model) -> None:
    vocab = model.vocab
    assert vocab.tokenize("<|im_end|>", parse_special=True) == [token_id("<|im_end|>")]
    assert token_id("<|im_end|>") not in vocab.tokenize("<|im_end|>")


def test_control_tokens_are_rendered_only_on_request(model: Model) -> None:
    vocab, end = model.vocab, token_id("<|im_end|>")
    assert vocab.token_to_piece(end) == b""
    assert vocab.token_to_piece(end, special=True) == b"<|im_end|>"
    assert vocab.detokenize([end]) == ""
    assert vocab.detokenize([end], unparse_special=True) == "<|im_end|>"


def test_invalid_utf8_is_tokenized_or_refused(model: Model) -> None:
    """llama_tokenize throws through the C API for four bytes beyond U+10FFFF."""
    vocab = model.vocab
    assert vocab.detokenize(vocab.tokenize(b"a\xc3"))
    with pytest.raises(InvalidRequestError, match="invalid codepoint"):
        vocab.tokenize(b"\xf4\x90\x80\x80")


def test_a_lone_surrogate_does_not_stop_it(model: Model) -> None:
    assert model.vocab.tokenize("a\udc80b")


def test_special_ids(model: Model) -> None:
    vocab = model.vocab
    assert vocab.n_tokens == len(vocabulary()[0])
    assert vocab.type is VocabType.BPE
    assert vocab.bos == vocab.pad == token_id("<|endoftext|>")
    assert vocab.eos == token_id("<|im_end|>")
    assert vocab.eot == token_id("<|endoftext|>")
    assert vocab.sep is None
    assert vocab.mask is None
    assert vocab.nl is not None
    assert vocab.eog_tokens == {token_id("<|im_end|>"), token_id("<|endoftext|>")}
    assert vocab.is_eog(token_id("<|im_end|>"))
    assert not vocab.is_eog(0)
    assert vocab.suppress_tokens == ()
    assert (vocab.add_bos, vocab.add_eos) == (False, False)
    assert vocab.fim == {
        "pre": token_id("<|fim_prefix|>"),
        "suf": token_id("<|fim_suffix|>"),
        "mid": token_id("<|fim_middle|>"),
    }


def test_attributes(model: Model) -> None:
    vocab = model.vocab
    assert vocab.attr(0) == TokenAttr.NORMAL
    for special in SPECIALS:
        assert TokenAttr.CONTROL in vocab.attr(token_id(special))
        assert vocab.is_control(token_id(special))
    assert not vocab.is_control(0)
    assert vocab.text(token_id("<|im_end|>")) == "<|im_end|>"
    assert isinstance(vocab.score(0), float)


@pytest.mark.parametrize("token", [-1, 10**6, -(2**31), 2**31])
def test_tokens_outside_the_vocabulary_are_refused(model: Model, token: int) -> None:
    vocab = model.vocab
    for use in (
        vocab.token_to_piece,
        vocab.attr,
        vocab.text,
        vocab.score,
        vocab.is_eog,
        vocab.is_control,
        lambda token: vocab.detokenize([0, token]),
    ):
        with pytest.raises(InvalidRequestError, match="outside the vocabulary") as caught:
            use(token)
        assert caught.value.param == "token"


def test_a_model_without_a_tokenizer_says_so(tiny_of) -> None:
    """llama.cpp asserts in all of these."""
    fields = {
        "tokenizer.ggml.model": ("no_vocab", gguf.GGUFValueType.STRING),
        "{arch}.vocab_size": (380, gguf.GGUFValueType.UINT32),
    }
    with Model.load(tiny_of(fields=fields)) as model:
        vocab = model.vocab
        assert (vocab.type, vocab.n_tokens) == (VocabType.NONE, 380)
        assert vocab.bos is None
        assert vocab.eog_tokens == frozenset()
        for use in (
            lambda: vocab.tokenize("a"),
            lambda: vocab.detokenize([1]),
            lambda: vocab.attr(1),
            lambda: vocab.token_to_piece(1),
            lambda: vocab.text(1),
            lambda: vocab.score(1),
            lambda: vocab.is_eog(1),
            lambda: vocab.is_control(1),
        ):
            with pytest.raises(InvalidRequestError, match="no tokenizer"):
                use()
        with Context(model) as context:
            assert context.decode(Batch.of([1, 2])) is DecodeStatus.OK


def test_the_end_tokens_are_found_once_for_each_model(model: Model) -> None:
    found = tuple(i for i in range(model.vocab.n_tokens) if model.vocab.is_eog(i))
    assert model.end_tokens == found
    assert model.end_tokens is model.end_tokens
    assert model.vocab.eog_tokens == set(found)
