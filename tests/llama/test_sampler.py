from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from shimmy.errors import InvalidRequestError, LlamaError
from shimmy.llama import Batch, Context, Model, Sampler, SamplerChain

ABC = 'root ::= "a" "b" "c"'
N = 380  # tokens of the tiny vocabulary


@pytest.fixture
def logits() -> np.ndarray:
    return np.random.default_rng(5).standard_normal(N).astype(np.float32) * 3


def kept(sampler: Sampler, logits: np.ndarray) -> set[int]:
    """Return the tokens that are still possible."""
    left = sampler.apply(logits)
    return set(left.ids[left.logits > -np.inf].tolist())


# every constructor, with a seed where it has one
MAKERS: dict[str, Callable[[Model], Sampler]] = {
    "greedy": lambda _: Sampler.greedy(),
    "dist": lambda _: Sampler.dist(1),
    "top-k": lambda _: Sampler.top_k(5),
    "top-p": lambda _: Sampler.top_p(0.5),
    "min-p": lambda _: Sampler.min_p(0.1),
    "typical": lambda _: Sampler.typical(0.5),
    "temp": lambda _: Sampler.temp(0.5),
    "temp-ext": lambda _: Sampler.temp_ext(0.8, 0.2, 1.0),
    "xtc": lambda _: Sampler.xtc(1.0, 0.05, seed=1),
    "top-n-sigma": lambda _: Sampler.top_n_sigma(1.0),
    "mirostat": lambda _: Sampler.mirostat(N, seed=1),
    "mirostat-v2": lambda _: Sampler.mirostat_v2(seed=1),
    "penalties": lambda _: Sampler.penalties(N, repeat=1.3, frequency=0.1, presence=0.1),
    "dry": lambda model: Sampler.dry(model, 0.8),
    "adaptive-p": lambda _: Sampler.adaptive_p(0.5, seed=1),
    "logit-bias": lambda _: Sampler.logit_bias(N, {3: 100.0}),
    "infill": Sampler.infill,
    "grammar": lambda model: Sampler.grammar(model, ABC),
}


@pytest.mark.parametrize("name", MAKERS)
def test_every_sampler_samples_and_the_same_seed_gives_the_same_tokens(
    model: Model, context: Context, name: str
) -> None:
    def run() -> list[int]:
        context.memory.clear()
        tokens = [1]
        with SamplerChain.of(MAKERS[name](model)) as chain:
            assert chain.names[0] == name
            if name not in {"greedy", "dist", "mirostat", "mirostat-v2", "adaptive-p"}:
                chain.add(Sampler.dist(2))
            for pos in range(3):
                context.decode(Batch.of(tokens[-1:], pos=pos))
                tokens.append(chain.sample(context))
        return tokens

    first = run()
    assert run() == first
    assert all(0 <= token < N for token in first)


@pytest.mark.parametrize("name", MAKERS)
def test_every_sampler_can_be_cloned_and_reset(model: Model, name: str, logits: np.ndarray) -> None:
    with MAKERS[name](model) as sampler, sampler.clone() as copy:
        assert copy.name == sampler.name == name
        if name == "adaptive-p":  # it remembers its choice until it is accepted
            return
        np.testing.assert_array_equal(sampler.apply(logits).ids, copy.apply(logits).ids)
        sampler.reset()


def test_seeds() -> None:
    with Sampler.dist(7) as seeded, Sampler.dist() as random, Sampler.greedy() as greedy:
        assert seeded.seed == 7
        assert random.seed is not None
        assert greedy.seed is None


def test_reset_starts_a_seeded_sampler_over(logits: np.ndarray) -> None:
    with Sampler.dist(7) as sampler:
        first = [sampler.apply(logits).token for _ in range(5)]
        assert len(set(first)) > 1
        sampler.reset()
        assert [sampler.apply(logits).token for _ in range(5)] == first


def test_a_clone_has_the_state_and_goes_its_own_way(model: Model, logits: np.ndarray) -> None:
    a, b = (model.vocab.tokenize(x)[0] for x in "ab")
    with Sampler.grammar(model, ABC) as grammar:
        grammar.accept(a)
        with grammar.clone() as copy:
            copy.accept(b)
            assert kept(grammar, logits) == {b}


def test_what_the_cutting_samplers_keep(logits: np.ndarray) -> None:
    order = np.argsort(-logits)
    probs = np.exp(logits - logits.max())
    probs /= probs.sum()
    with Sampler.top_k(5) as s:
        assert kept(s, logits) == set(order[:5])
    with Sampler.top_k(0) as s:
        assert len(kept(s, logits)) == N
    with Sampler.min_p(0.1) as s:
        assert kept(s, logits) == set(np.flatnonzero(probs >= 0.1 * probs.max()))
    with Sampler.top_p(0.5) as s:
        n = int(np.searchsorted(np.cumsum(probs[order]), 0.5)) + 1
        assert kept(s, logits) == set(order[:n])
    with Sampler.top_n_sigma(1.0) as s:
        assert kept(s, logits) == set(np.flatnonzero(logits >= logits.max() - logits.std()))
    with Sampler.greedy() as s:
        assert s.apply(logits).token == order[0]
    with Sampler.temp(0.0) as s:
        assert kept(s, logits) == {order[0]}


def test_penalties_count_accepted_tokens(logits: np.ndarray) -> None:
    with Sampler.penalties(N, last_n=2, repeat=1.0, presence=1.0) as sampler:
        sampler.accept(3)
        assert sampler.apply(logits).logits[3] == pytest.approx(logits[3] - 1.0)
        for token in (4, 5):
            sampler.accept(token)
        assert sampler.apply(logits).logits[3] == logits[3], "out of the window"


def test_logit_bias_adds_and_forbids(logits: np.ndarray) -> None:
    with Sampler.logit_bias(N, {3: 2.0, 4: -np.inf}) as sampler:
        after = sampler.apply(logits).logits
    assert after[3] == pytest.approx(logits[3] + 2.0)
    assert after[4] == -np.inf


def test_a_sampler_that_parameters_switch_off_says_so() -> None:
    with Sampler.penalties(N) as sampler:
        assert sampler.name == "?penalties"


def test_a_grammar_allows_only_what_comes_next(model: Model, logits: np.ndarray) -> None:
    a, b = (model.vocab.tokenize(x)[0] for x in "ab")
    with Sampler.grammar(model, ABC) as grammar:
        assert kept(grammar, logits) == {a}
        grammar.accept(a)
        assert kept(grammar, logits) == {b}


def test_a_lazy_grammar_waits_for_its_trigger(model: Model, logits: np.ndarray) -> None:
    a, b, x = (model.vocab.tokenize(c)[0] for c in "abx")
    with Sampler.grammar_lazy(model, ABC, patterns=["x(a)"]) as grammar:
        assert len(kept(grammar, logits)) == N
        grammar.accept(x)
        grammar.accept(a)
        assert kept(grammar, logits) == {b}
    with Sampler.grammar_lazy(model, 'root ::= "xa"', tokens=[x]) as grammar:
        grammar.accept(x)
        assert kept(grammar, logits) == {a}


def test_a_chain_runs_in_order(logits: np.ndarray) -> None:
    with SamplerChain.of(Sampler.top_k(3), Sampler.dist(1)) as chain:
        assert chain.names == ("top-k", "dist")
        assert len(chain) == 2
        assert chain.apply(logits).token in np.argsort(-logits)[:3]
        chain.remove(0).close()
        assert chain.names == ("dist",)
        with chain.clone() as copy:
            assert copy.names == ("dist",)


def test_an_empty_chain_is_true_and_selects_nothing(context: Context, logits: np.ndarray) -> None:
    context.decode(Batch.of([1]))
    with SamplerChain() as chain:
        assert chain
        assert chain.apply(logits).token is None
        with pytest.raises(InvalidRequestError, match="end the chain with greedy"):
            chain.sample(context)


def test_chain_misuse(model: Model) -> None:
    with SamplerChain() as chain:
        with pytest.raises(InvalidRequestError):
            chain.add(chain)
        for index in (-1, 0):
            with pytest.raises(InvalidRequestError):
                chain.remove(index)


def test_sampling_where_there_are_no_logits(context: Context) -> None:
    with Sampler.greedy() as sampler:
        with pytest.raises(InvalidRequestError, match="no logits at index"):
            sampler.sample(context)
        context.decode(Batch.of([1, 2]))
        with pytest.raises(InvalidRequestError, match="no logits at index 0"):
            sampler.sample(context, 0)
        assert sampler.sample(context, 1) == int(context.logits().argmax())


@pytest.mark.parametrize("logits", [np.zeros((2, 2)), np.zeros(0)])
def test_apply_takes_one_row(logits: np.ndarray) -> None:
    with Sampler.greedy() as sampler, pytest.raises(InvalidRequestError):
        sampler.apply(logits)


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("make", "param"),
    [
        (lambda _: Sampler.dist(-1), "seed"),
        (lambda _: Sampler.dist(2**32), "seed"),
        (lambda _: Sampler.dist(2**32 - 1), "seed"),
        (lambda _: Sampler.top_k(-1), "k"),
        (lambda _: Sampler.top_k(2**31), "k"),
        (lambda _: Sampler.top_k(1.5), "k"),
        (lambda _: Sampler.top_p(1.1), "p"),
        (lambda _: Sampler.top_p(NAN), "p"),
        (lambda _: Sampler.top_p(0.5, -1), "min_keep"),
        (lambda _: Sampler.min_p(-0.1), "p"),
        (lambda _: Sampler.typical(2), "p"),
        (lambda _: Sampler.temp(-1), "temperature"),
        (lambda _: Sampler.temp("hot"), "temperature"),
        (lambda _: Sampler.temp_ext(1, -1, 1), "delta"),
        (lambda _: Sampler.temp_ext(1, 1, INF), "exponent"),
        (lambda _: Sampler.xtc(2, 0.1), "probability"),
        (lambda _: Sampler.xtc(0.1, -1), "threshold"),
        (lambda _: Sampler.top_n_sigma(NAN), "n"),
        (lambda _: Sampler.mirostat(0), "n_vocab"),
        (lambda _: Sampler.mirostat(N, m=0), "m"),
        (lambda _: Sampler.mirostat(N, tau=-1), "tau"),
        (lambda _: Sampler.mirostat_v2(eta=NAN), "eta"),
        (lambda _: Sampler.penalties(N, repeat=0), "repeat"),
        (lambda _: Sampler.penalties(N, frequency=INF), "frequency"),
        (lambda _: Sampler.penalties(N, presence=NAN), "presence"),
        (lambda _: Sampler.penalties(N, last_n=2**31 - 1), "last_n"),
        (lambda _: Sampler.penalties(N, last_n=-1), "last_n"),
        (lambda m: Sampler.dry(m, -1), "multiplier"),
        (lambda m: Sampler.dry(m, 1, base=NAN), "base"),
        (lambda m: Sampler.dry(m, 1, allowed_length=-1), "allowed_length"),
        (lambda m: Sampler.dry(m, 1, last_n=2**30), "last_n"),
        (lambda m: Sampler.dry(m, 1, breakers=["a\0b"]), "breakers"),
        (lambda _: Sampler.adaptive_p(1.5), "target"),
        (lambda _: Sampler.adaptive_p(0.5, 1.0), "decay"),
        (lambda _: Sampler.logit_bias(N, {N: 1.0}), "logit_bias token"),
        (lambda _: Sampler.logit_bias(N, {-1: 1.0}), "logit_bias token"),
        (lambda _: Sampler.logit_bias(N, {1: NAN}), "logit_bias"),
        (lambda _: Sampler.logit_bias(N, {1: INF}), "logit_bias"),
        (lambda m: Sampler.grammar(m, "a\0b"), "grammar"),
        (lambda m: Sampler.grammar_lazy(m, ABC, tokens=[N]), "token"),
    ],
)
def test_bad_parameters_are_named(model: Model, make, param: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        make(model)
    assert caught.value.param == param


@pytest.mark.parametrize(
    "grammar",
    [
        "",
        "  # nothing but a comment",
        'root ::= "a',
        "root ::= missing",
        'root ::= root "a" | "b"',
        'other ::= "a"',
        'root ::= "a"{99999999}',
        "%llguidance {}\nstart: /a/",
        "root ::= <[x]>",
        "\xff\xfe",
    ],
)
def test_grammars_that_cannot_be_are_refused(model: Model, grammar: str) -> None:
    with pytest.raises(InvalidRequestError, match="grammar"):
        Sampler.grammar(model, grammar)


@pytest.mark.parametrize(
    ("grammar", "reason"),
    [
        ("root ::= missing", "rule 'missing' is used, but not defined"),
        ('root ::= "a"\nother = "b"', "expecting ::= in line 2 at '= \"b\"'"),
        ('root ::= "a"\n\nother ::= )', "expecting newline or end in line 3 at ')'"),
        ('root ::= "a', "unexpected end of input"),
        ('other ::= "a"', "there is no rule 'root'"),
        ('root ::= root "a" | "b"', "left recursion"),
    ],
)
def test_the_reason_for_refusing_a_grammar(
    model: Model, grammar: str, reason: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        Sampler.grammar(model, grammar)
    assert reason in str(caught.value)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    "grammar",
    [
        "root ::= " + "(" * 100_000 + '"a"' + ")" * 100_000,
        "root ::= r0\n"
        + "".join(f"r{i} ::= r{i + 1}\n" for i in range(100_000))
        + 'r100000 ::= "a"',
    ],
    ids=["groups", "rules"],
)
def test_a_grammar_that_would_overflow_the_stack_is_refused(model: Model, grammar: str) -> None:
    with pytest.raises(InvalidRequestError, match="more than"):
        Sampler.grammar(model, grammar)


def test_parentheses_in_literals_classes_and_comments_do_not_nest(model: Model) -> None:
    opened = "(" * 2000
    grammar = f'# {opened}\nroot ::= "{opened}\\"{opened}" [({opened}\\](] # {opened}'
    with Sampler.grammar(model, grammar) as sampler:
        assert sampler.name == "grammar"


def test_a_root_that_is_not_there(model: Model) -> None:
    with pytest.raises(InvalidRequestError):
        Sampler.grammar(model, ABC, root="top")
    with pytest.raises(InvalidRequestError, match="root"):
        Sampler.grammar(model, ABC, root="")


def test_a_grammar_refuses_a_token_that_does_not_match(model: Model, logits: np.ndarray) -> None:
    """llama_sampler_accept throws through the C API there."""
    x = model.vocab.tokenize("x")[0]
    with Sampler.grammar(model, ABC) as grammar:
        with pytest.raises(LlamaError, match="not accepted"):
            grammar.accept(x)
        with pytest.raises(LlamaError):
            grammar.accept(10**6)
    with Sampler.grammar(model, ABC) as grammar, pytest.raises(InvalidRequestError):
        grammar.accept(-1)


def test_a_trigger_pattern_that_is_no_regular_expression(model: Model) -> None:
    """std::regex throws through the C API there."""
    with pytest.raises(InvalidRequestError, match=r"'x\(' is no regular expression"):
        Sampler.grammar_lazy(model, ABC, patterns=["x("])
    with pytest.raises(InvalidRequestError, match="does not parse"):
        Sampler.grammar_lazy(model, "a ::=", patterns=["x"])
