from __future__ import annotations

import pytest

from shimmy.errors import InvalidRequestError, PullError
from shimmy.models.hub.files import Listed, choose, projector, quant_of, variants
from shimmy.models.hub.names import is_safe, safe_path
from shimmy.models.hub.spec import CatalogueSpec, RepoSpec, UrlSpec, parse


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("hf:Org/Re.po-1_x", RepoSpec(repo="Org/Re.po-1_x")),
        ("hf:org/repo:Q4_K_M", RepoSpec(repo="org/repo", quant="Q4_K_M")),
        ("HF:org/repo:sub/file.gguf", RepoSpec(repo="org/repo", quant="sub/file.gguf")),
        ("hf://org/repo", RepoSpec(repo="org/repo")),
        ("org/repo:q8_0", RepoSpec(repo="org/repo", quant="q8_0")),
        ("qwen3-4b", CatalogueSpec(name="qwen3-4b")),
        ("qwen3-4b:Q8_0", CatalogueSpec(name="qwen3-4b", quant="Q8_0")),
        (
            "https://ex.org:8443/a/b%20c.GGUF?download=1",
            UrlSpec(
                url="https://ex.org:8443/a/b%20c.GGUF?download=1",
                host="ex.org_8443",
                name="b c.GGUF",
            ),
        ),
    ],
)
def test_every_form_is_read(text, spec):
    assert parse(text) == spec


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":Q8_0",
        "hf:org",
        "hf:../repo",
        "hf:org/..",
        "hf:org/a..b/c",
        "hf:org/re po",
        "a/b/c",
        "ftp://ex.org/m.gguf",
        "file:///etc/m.gguf",
        "https://ex.org/model.bin",
        "https://ex.org/..%2f..%2fm.gguf",
        "https://ex.org/%2e%2e%5cm.gguf",
        "https://ex.org/.m.gguf",
        "https://user:word@ex.org/m.gguf",
        "https://ex.org:99999/m.gguf",
        "https:///m.gguf",
    ],
)
def test_what_is_no_specification_is_refused_with_the_field(text):
    with pytest.raises(InvalidRequestError) as caught:
        parse(text)
    assert caught.value.param == "SPEC"


@pytest.mark.parametrize(
    "name",
    [
        "../m.gguf",
        "/m.gguf",
        "a/../m.gguf",
        "a//m.gguf",
        ".hidden/m.gguf",
        "a\\m.gguf",
        "C:m.gguf",
        "con.gguf",
        "m.gguf.",
        "m\n.gguf",
        "a/b/c/d/m.gguf",
        "x" * 300 + ".gguf",
        "",
    ],
)
def test_a_name_that_could_lead_elsewhere_is_not_used(tmp_path, name):
    assert not is_safe(name)
    with pytest.raises(PullError, match="no safe name"):
        safe_path(tmp_path, name)


def test_nothing_is_written_through_a_link(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "repo").mkdir()
    (tmp_path / "repo" / "sub").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(PullError, match="is a link"):
        safe_path(tmp_path / "repo", "sub/m.gguf")


@pytest.mark.parametrize(
    ("stem", "quant"),
    [
        ("Qwen3-4B-Q4_K_M", "Q4_K_M"),
        ("qwen2.5-coder-7b-instruct-q5_0", "Q5_0"),
        ("Qwen3-30B-UD-Q4_K_XL", "UD-Q4_K_XL"),
        ("m.IQ2_XXS", "IQ2_XXS"),
        ("gpt-oss-20b-mxfp4", "MXFP4"),
        ("mmproj-F16", "F16"),
        ("BF16/m-BF16", "BF16"),
        ("Q8_0/model", "Q8_0"),
        ("TQ1_0-model", "TQ1_0"),
        ("Qwen2.5-plain", None),
    ],
)
def test_the_quantisation_is_in_the_name(stem, quant):
    assert quant_of(stem) == quant


def listed(*names: str) -> list[Listed]:
    return [Listed(name, 10) for name in names]


def test_shards_are_one_model_and_incomplete_sets_none():
    found = variants(
        listed(
            "Q8_0/m-Q8_0-00002-of-00002.gguf",
            "Q8_0/m-Q8_0-00001-of-00002.gguf",
            "b-Q4_0-00001-of-00003.gguf",
            "mmproj-F16.gguf",
            "imatrix.gguf",
            "../evil-Q4_0.gguf",
            "README.md",
        )
    )
    (only,) = found
    assert [file.name[-19:-5] for file in only.files] == ["00001-of-00002", "00002-of-00002"]
    assert (only.quant, only.size) == ("Q8_0", 20)


def test_the_usual_quantisation_is_taken_where_none_is_asked_for():
    there = listed("m-Q2_K.gguf", "m-Q8_0.gguf", "m-Q4_K_M.gguf", "m-F16.gguf")
    assert choose("o/r", there, None).quant == "Q4_K_M"
    assert choose("o/r", there, "q2_k").quant == "Q2_K"
    assert choose("o/r", there, "M-F16.gguf").quant == "F16"


def test_a_quantisation_that_is_not_there_is_answered_with_those_that_are():
    with pytest.raises(InvalidRequestError, match=r"no Q9; there are: Q2_K, Q8_0$"):
        choose("o/r", listed("m-Q2_K.gguf", "m-Q8_0.gguf"), "Q9")


def test_a_repository_without_gguf_is_said_to_have_none():
    with pytest.raises(InvalidRequestError, match="has no GGUF model"):
        choose("o/r", listed("model.safetensors", "mmproj-F16.gguf"), None)


def test_of_several_models_one_has_to_be_named_by_its_file():
    there = listed("a-Q4_0.gguf", "b-Q4_0.gguf")
    with pytest.raises(InvalidRequestError, match=r"a-Q4_0\.gguf, b-Q4_0\.gguf"):
        choose("o/r", there, "Q4_0")
    assert choose("o/r", there, "b-Q4_0.gguf").base == "b-Q4_0"


def test_a_model_that_is_there_whole_and_in_shards_is_taken_whole():
    there = listed("m-Q4_0.gguf", "m-Q4_0-00001-of-00002.gguf", "m-Q4_0-00002-of-00002.gguf")
    assert [file.name for file in choose("o/r", there, None).files] == ["m-Q4_0.gguf"]


def test_the_projector_is_the_f16_one_beside_the_model():
    there = listed("m-Q4_0.gguf", "mmproj-BF16.gguf", "mmproj-F16.gguf", "x/mmproj-F16.gguf")
    chosen = projector(there, choose("o/r", there, None))
    assert chosen is not None
    assert chosen.name == "mmproj-F16.gguf"
