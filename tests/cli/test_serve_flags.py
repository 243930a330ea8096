"""What the flags of `serve` become; nothing is served here."""

from __future__ import annotations

import pytest

from shimmy.cli.commands import serve
from shimmy.models import registry
from tests.models import gguf


@pytest.fixture
def served(shimmy, monkeypatch):
    """Run `serve` up to the point where it would serve; return what it would serve with."""

    def run(*args):
        seen = {}

        async def instead(models, options, config, spec, *, strict, settings, better):
            seen.update(models=models, options=options, config=config, spec=spec, strict=strict)
            seen.update(settings=settings, better=better)

        monkeypatch.setattr(serve, "_serve", instead)
        result = shimmy(*args)
        assert result.exit_code == 0, result.stderr
        return seen

    return run


@pytest.mark.parametrize(
    ("args", "field", "value"),
    [
        ([], "n_ctx", None),
        (["-c", "4096"], "n_ctx", 4096),
        (["--ctx-size", "4096"], "n_ctx", 4096),
        (["-np", "16"], "n_parallel", 16),
        (["--parallel", "16"], "n_parallel", 16),
        (["-t", "3"], "n_threads", 3),
        (["--threads", "3"], "n_threads", 3),
        (["-ngl", "0"], "n_gpu_layers", 0),
        (["--n-gpu-layers", "99"], "n_gpu_layers", 99),
        (["-b", "1024"], "n_batch", 1024),
        (["--batch-size", "1024"], "n_batch", 1024),
        (["-ub", "256"], "n_ubatch", 256),
        (["--ubatch-size", "256"], "n_ubatch", 256),
        (["-ot", "ffn_.*=CPU"], "override_tensor", [("ffn_.*", "CPU")]),
        (["-ot", "a=b=CPU", "-ot", "c=CUDA0"], "override_tensor", [("a=b", "CPU"), ("c", "CUDA0")]),
        (["-fa", "on"], "flash_attn", "on"),
        ([], "flash_attn", "auto"),
        (["-ctk", "q8_0"], "cache_type_k", "q8_0"),
        (["--cache-type-v", "q4_0"], "cache_type_v", "q4_0"),
        (["--chat-template", "chatml"], "chat_template", "chatml"),
        (["-tb", "3"], "n_threads_batch", 3),
        ([], "kv_unified", True),
        (["--no-kv-unified"], "kv_unified", False),
        (["-no-kvu"], "kv_unified", False),
        (["-kvu"], "kv_unified", True),
        ([], "swa_full", None),
        (["--swa-full"], "swa_full", True),
        (["--no-swa-full"], "swa_full", False),
        ([], "ctx_checkpoints", 32),
        (["--ctx-checkpoints", "0"], "ctx_checkpoints", 0),
        (["-ctxcp", "8"], "ctx_checkpoints", 8),
        ([], "context_shift", False),
        (["--context-shift"], "context_shift", True),
        (["--rope-scaling", "yarn"], "rope_scaling", "yarn"),
        (["--rope-freq-base", "1e6"], "rope_freq_base", 1e6),
        (["--rope-freq-scale", "0.5"], "rope_freq_scale", 0.5),
        (["--yarn-orig-ctx", "4096"], "yarn_orig_ctx", 4096),
        (["--yarn-ext-factor", "0"], "yarn_ext_factor", 0.0),
        (["--yarn-attn-factor", "1.5"], "yarn_attn_factor", 1.5),
        (["--yarn-beta-fast", "32"], "yarn_beta_fast", 32.0),
        (["--yarn-beta-slow", "1"], "yarn_beta_slow", 1.0),
        ([], "cache_ram", None),
        (["-cram", "0"], "cache_ram", 0),
        (["--cache-ram", "512"], "cache_ram", 512),
        (["--slot-save-path", "/tmp"], "slot_save_path", "/tmp"),
        ([], "mmproj", None),
        ([], "use_mmproj", True),
        (["--no-mmproj"], "use_mmproj", False),
        (["--mmproj-auto"], "use_mmproj", True),
        ([], "mmproj_offload", True),
        (["--no-mmproj-offload"], "mmproj_offload", False),
        (["--mmproj-offload"], "mmproj_offload", True),
        (["--image-min-tokens", "64"], "image_min_tokens", 64),
        (["--image-max-tokens", "256"], "image_max_tokens", 256),
        (["--cpu-moe"], "cpu_moe", True),
        (["--n-cpu-moe", "7"], "n_cpu_moe", 7),
        (["--n-cpu-moe", "0"], "n_cpu_moe", 0),
        (["--gpu-backend", "CUDA"], "gpu_backend", "cuda"),
        ([], "gpu_backend", "auto"),
    ],
)
def test_engine_flags_reach_the_engine(served, args, field, value):
    assert getattr(served("serve", *args)["options"], field) == value


@pytest.mark.parametrize(
    ("args", "field", "value"),
    [
        (["--cpu-moe"], "cpu_moe", True),
        (["--n-cpu-moe", "0"], "n_cpu_moe", 0),
        (["--gpu-backend", "vulkan"], "gpu_backend", "vulkan"),
    ],
)
def test_global_flags_may_stand_before_the_command(served, args, field, value):
    assert getattr(served(*args, "serve")["options"], field) == value


def test_a_flag_after_the_command_wins(served):
    seen = served("--gpu-backend", "cuda", "--n-cpu-moe", "3", "serve", "--gpu-backend", "cpu")
    assert seen["options"].gpu_backend == "cpu"
    assert seen["options"].n_cpu_moe == 3


def test_lora_takes_a_scale(served, tmp_path):
    plain, equal = (gguf.write_lora(tmp_path / name) for name in ("a.gguf", "b=c.gguf"))
    seen = served("serve", "--lora", plain, "--lora", f"{plain}=0.5", "--lora", equal)
    assert seen["options"].lora == [(str(plain), 1.0), (str(plain), 0.5), (str(equal), 1.0)]


@pytest.mark.parametrize("flag", ["-mm", "--mmproj"])
def test_mmproj_takes_a_projector(served, tmp_path, flag):
    eyes = gguf.write_projector(tmp_path / "eyes.gguf")
    options = served("serve", flag, eyes)["options"]
    assert (options.mmproj, options.use_mmproj) == (str(eyes), True)


def test_a_chat_template_file_is_read(served, tmp_path):
    (tmp_path / "t.jinja").write_text("{{ messages }}")
    seen = served("serve", "--chat-template", tmp_path / "t.jinja")
    assert seen["options"].chat_template == "{{ messages }}"


@pytest.mark.parametrize(
    ("args", "spec"),
    [
        ([], "auto"),
        (["--bind", "auto"], "auto"),
        (["--bind", "0.0.0.0:80"], "0.0.0.0:80"),
        (["--port", "8080"], "127.0.0.1:8080"),
        (["--host", "0.0.0.0"], "0.0.0.0:11435"),
        (["--host", "::1", "--port", "0"], "[::1]:0"),
        (["--host", "[::1]", "--port", "8080"], "[::1]:8080"),
    ],
)
def test_host_and_port_are_another_way_to_bind(served, args, spec):
    assert served("serve", *args)["spec"] == spec


@pytest.mark.parametrize("flag", ["-m", "--model", "--model-path"])
def test_a_model_file_comes_first_under_its_alias(served, tmp_path, home, flag):
    gguf.write(home / "models" / "a.gguf")
    mine = gguf.write(tmp_path / "mine.gguf")
    seen = served("serve", flag, mine, "-a", "gpt-4")
    assert seen["models"].resolve(None).name == "gpt-4"
    assert seen["models"].resolve("a").source == "discovered"
    assert seen["strict"]


def test_discovered_models_are_served_without_a_flag(served, tmp_path):
    gguf.write(tmp_path / "x" / "m.gguf")
    seen = served("--model-dirs", tmp_path / "x", "serve")
    assert seen["models"].resolve(None).name == "m"
    assert not seen["strict"]


def test_keys_and_origins_reach_the_server(served, monkeypatch):
    monkeypatch.setenv("SHIMMY_API_KEY", "from-environment")
    assert served("serve")["config"].api_keys == ("from-environment",)
    args = ("--api-key", "one", "--api-key", "two", "--cors-origin", "https://chat.example")
    config = served("serve", *args)["config"]
    assert config.api_keys == ("one", "two")
    assert config.cors_origins == ("https://chat.example",)


@pytest.mark.parametrize(
    "args",
    [
        ["-ot", "no-buffer"],
        ["-ot", "=CPU"],
        ["-fa", "maybe"],
        ["-ctk", "q3_k"],
        ["-np", "0"],
        ["-np", "257"],
        ["-ngl", "-1"],
        ["--port", "65536"],
        ["--lora", "/nowhere/adapter.gguf"],
        ["--bind", "auto", "--port", "80"],
        ["--bind", "auto", "--host", "::1"],
    ],
)
def test_a_flag_that_cannot_be_is_a_usage_error(shimmy, args):
    result = shimmy("serve", *args)
    assert result.exit_code == 2
    assert result.stderr.startswith("Usage: ")


@pytest.mark.parametrize(
    ("args", "word"),
    [
        (["--model-path", "/nowhere/m.gguf"], "/nowhere/m.gguf cannot be read: No such file"),
        (["--model-path", "/etc/passwd"], "not a GGUF model file"),
        (["--chat-template", "/nowhere/t.jinja"], "chat template /nowhere/t.jinja not found"),
        (["--bind", "nonsense"], "--bind"),
        (["--bind", "127.0.0.1:99999"], "--bind"),
        (["--bind", "192.0.2.1:80"], "--bind"),
        (["--api-key", "caf\u00e9"], "printable ASCII"),
        (["--cors-origin", "chat.example"], "--cors-origin"),
    ],
)
def test_what_cannot_be_served_is_one_sentence_and_exit_1(shimmy, home, args, word):
    gguf.write(home / "models" / "m.gguf")
    result = shimmy("serve", *args)
    assert result.exit_code == 1
    assert word in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("command", [["serve"], ["generate", "--prompt", "x"]])
def test_no_model_at_all_is_one_sentence_that_says_what_to_do(shimmy, monkeypatch, command):
    monkeypatch.setattr(registry, "demo_entry", lambda: None)
    result = shimmy(*command)
    assert result.exit_code == 1
    assert "no model" in result.stderr
    assert ".gguf" in result.stderr
    assert result.stderr.count("\n") == 1
