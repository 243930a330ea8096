from __future__ import annotations

import math

import msgspec
import pytest

from shimmy.engine.types.sampling import MAX_SEED, SamplingParams
from shimmy.errors import InvalidRequestError
from shimmy.server.dialects.fields import decode
from shimmy.server.dialects.sampling import SamplingFields, sampling_of

decoder = msgspec.json.Decoder(SamplingFields)


def read(**fields: object) -> SamplingParams:
    return sampling_of(decode(decoder, msgspec.json.encode(fields)))


def test_nothing_means_the_models_own_advice():
    assert read() == SamplingParams()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", 0.5), ("top_k", 5), ("top_p", 0.5), ("min_p", 0.1), ("typ_p", 0.9),
        ("top_n_sigma", 1.5), ("xtc_probability", 0.5), ("xtc_threshold", 0.2),
        ("dynatemp_range", 0.5), ("dynatemp_exponent", 2.0), ("repeat_last_n", 32),
        ("repeat_penalty", 1.1), ("presence_penalty", 0.5), ("frequency_penalty", -0.5),
        ("dry_multiplier", 0.8), ("dry_base", 1.75), ("dry_allowed_length", 2),
        ("dry_penalty_last_n", 100), ("dry_sequence_breakers", ["\n"]), ("mirostat", 2),
        ("mirostat_tau", 5.0), ("mirostat_eta", 0.1), ("adaptive_target", 0.5),
        ("adaptive_decay", 0.5), ("min_keep", 1), ("samplers", ["top_k", "temperature"]),
        ("ignore_eos", True), ("grammar", "root ::= [a-z]+"), ("seed", 42),
        ("json_schema", {"type": "object"}),
    ],
)  # fmt: skip
def test_each_field_reaches_the_engine_by_its_name(name, value):
    assert read(**{name: value}) == SamplingParams(**{name: value})
    assert read(**{name: None}) == SamplingParams()


def test_every_engine_field_has_a_wire_field():
    assert set(SamplingParams.__struct_fields__) <= set(SamplingFields.__struct_fields__)


def test_typical_p_is_the_servers_name_of_typ_p():
    assert read(typical_p=0.9) == SamplingParams(typ_p=0.9)
    with pytest.raises(InvalidRequestError, match="typical_p must be") as caught:
        read(typical_p=2)
    assert caught.value.param == "typical_p"


def test_a_value_out_of_range_names_its_field():
    with pytest.raises(InvalidRequestError) as caught:
        read(top_p=1.5)
    assert caught.value.param == "top_p"


@pytest.mark.parametrize(
    ("seed", "engine"),
    [
        (-1, MAX_SEED),
        (0, 0),
        (7, 7),
        (2**32 - 2, 2**32 - 2),
        (2**32 - 1, 0),
        (2**32, 1),
        (-2, 2**32 - 3),
    ],
)
def test_64_bit_seeds_are_folded(seed, engine):
    assert read(seed=seed).seed == engine


@pytest.mark.parametrize("seed", [2**63, -(2**63) - 1])
def test_a_seed_beyond_64_bits_is_refused(seed):
    with pytest.raises(InvalidRequestError) as caught:
        read(seed=seed)
    assert caught.value.param == "seed"


def test_logit_bias_has_string_ids_and_false_bans():
    params = read(logit_bias={"5": -100, "6": 1.5, "7": False})
    assert params.logit_bias == {5: -100.0, 6: 1.5, 7: -math.inf}


@pytest.mark.parametrize(
    "bias",
    [
        {"a": 1},
        {"-1": 1},
        {"1.5": 1},
        {"": 1},
        {"9" * 5000: 1},
        {"1": True},
        [[-1, 1]],
        [[2**31, 1]],
    ],
)
def test_logit_bias_that_is_no_map_of_ids_to_numbers(bias):
    with pytest.raises(InvalidRequestError) as caught:
        read(logit_bias=bias)
    assert caught.value.param == "logit_bias"


def test_logit_bias_may_be_a_list_of_pairs_as_llama_servers():
    assert read(logit_bias=[[5, -100], [7, False]]).logit_bias == {5: -100.0, 7: -math.inf}
