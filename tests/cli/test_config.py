"""shimmy.toml, the environment and flags: what is read, what wins, what is refused."""

from __future__ import annotations

import json
import math

import pytest

from shimmy.cli.commands import serve
from shimmy.config import VARIABLES, parse_duration, parse_size
from tests.models import gguf
from tests.support.nobody import nobody


@pytest.fixture
def write(home):
    """Write the user's shimmy.toml, or another file."""

    def put(text, path=None):
        path = path or home / ".config" / "shimmy" / "shimmy.toml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    return put


@pytest.fixture(autouse=True)
def no_other_config(monkeypatch):
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)


@pytest.fixture
def settings(shimmy):
    """What `shimmy config --json` says: {key: (value, source)}."""

    def run(*args):
        result = shimmy("config", "--json", *args)
        assert result.exit_code == 0, result.stderr
        shown = json.loads(result.stdout)["settings"]
        return {key: (item["value"], item["source"]) for key, item in shown.items()}

    return run


@pytest.fixture
def served(shimmy, monkeypatch, home):
    """Run `serve` up to the point where it would serve; return what it would serve with."""
    gguf.write(home / "models" / "a.gguf")

    def run(*args):
        seen = {}

        async def instead(models, options, config, spec, **more):
            seen.update(models=models, options=options, config=config, spec=spec, **more)

        monkeypatch.setattr(serve, "_serve", instead)
        result = shimmy("serve", *args)
        assert result.exit_code == 0, result.stderr
        return seen

    return run


def test_without_anything_every_setting_is_its_default(settings):
    shown = settings()
    assert {source for _, source in shown.values()} == {"default"}
    assert shown["models.max"] == (4, "default")
    assert shown["engine.n_ctx"] == (None, "default")
    assert shown["server.bind"] == ("auto", "default")


def test_flags_win_over_variables_and_those_over_the_file(settings, write, monkeypatch):
    path = write("[engine]\nn_ctx = 100\n[models]\nmax = 7\n")
    assert settings()["engine.n_ctx"] == (100, str(path))
    monkeypatch.setenv("SHIMMY_MAX_CTX", "200")
    assert settings()["engine.n_ctx"] == (200, "SHIMMY_MAX_CTX")
    assert settings("-c", "300")["engine.n_ctx"] == (300, "--ctx-size")
    assert settings()["models.max"] == (7, str(path))


def test_config_shows_a_table_and_the_file(shimmy, write):
    path = write('[aliases]\ngpt = "a"\n[model.a]\nn_ctx = 5\npinned = true\n')
    result = shimmy("config")
    assert result.stdout.startswith(f"file: {path}\n")
    rows = [line.split() for line in result.stdout.splitlines()]
    assert ["aliases.gpt", "a", str(path)] in rows
    assert ["model.a.n_ctx", "5", str(path)] in rows
    assert ["model.a.pinned", "true", str(path)] in rows
    assert ["models.idle_unload", "never", "default"] in rows


def test_keys_are_never_shown(shimmy, monkeypatch):
    monkeypatch.setenv("SHIMMY_API_KEY", "secret1,secret2")
    for args in ((), ("--json",), ("--api-key", "secret3")):
        result = shimmy("config", *args)
        assert result.exit_code == 0
        assert "secret" not in result.stdout


def test_another_file_is_named_by_flag_or_variable(settings, write, tmp_path, monkeypatch):
    write("[models]\nmax = 1\n")
    other = write("[models]\nmax = 2\n", tmp_path / "other.toml")
    third = write("[models]\nmax = 3\n", tmp_path / "third.toml")
    assert settings()["models.max"][0] == 1
    monkeypatch.setenv("SHIMMY_CONFIG", str(other))
    assert settings()["models.max"][0] == 2
    assert settings("--config", third)["models.max"][0] == 3


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[engin]\n", "unknown section: 'engin'; did you mean 'engine'?"),
        ("[engine]\nnctx = 5\n", "unknown key in [engine]: 'nctx'; did you mean 'n_ctx'?"),
        ("[server]\nbnd = 'x'\n", "did you mean 'bind'?"),
        (
            "[model.a]\npined = true\n",
            "unknown key in [model.\"a\"]: 'pined'; did you mean 'pinned'?",
        ),
        ("[engine]\nzzzzzz = 5\n", "there are: "),
        ("[engine]\nmodel_path = 'x'\n", "unknown key in [engine]"),
        ("n_ctx = 5\n", "unknown section"),
        ("engine = 5\n", "engine must be a section, [engine]"),
        ("[engine]\nn_ctx = 0\n", "engine.n_ctx: '0' is not a whole number of at least 1"),
        ("[engine]\nn_ctx = 'many'\n", "engine.n_ctx"),
        ("[engine]\nn_ctx = true\n", "engine.n_ctx"),
        ("[engine]\ncpu_moe = 1\n", "engine.cpu_moe: expected true or false"),
        ("[engine]\ncache_type_k = 'q3'\n", "engine.cache_type_k: 'q3' is not one of"),
        ("[engine]\ncheck_tensors = 3\n", "engine.check_tensors"),
        ("[engine]\nlora = ['/nowhere/x.gguf']\n", "adapter file /nowhere/x.gguf not found"),
        ("[engine]\noverride_tensor = ['no-buffer']\n", "not REGEX=BUFT"),
        ("[engine]\nmmproj = '/nowhere.gguf'\n", "projector file /nowhere.gguf not found"),
        ("[model.a]\nmmproj = '/nowhere.gguf'\n", "engine.mmproj: projector file /nowhere.gguf"),
        ("[model.a]\nuse_mmproj = 1\n", "engine.use_mmproj: expected true or false"),
        (
            "[engine]\ncpu_moe = true\nn_cpu_moe = 2\n",
            "[engine]: cpu_moe cannot be used with n_cpu_moe",
        ),
        ("[model.a]\ncpu_moe = true\nn_cpu_moe = 2\n", "cpu_moe cannot be used with n_cpu_moe"),
        ("[models]\nmax = -1\n", "models.max"),
        ("[models]\nmemory = 'lots'\n", "models.memory: 'lots': expected a size"),
        ("[models]\nidle_unload = 'soon'\n", "models.idle_unload: 'soon': expected a time"),
        ("[model.a]\nidle_unload = 'soon'\n", "idle_unload: expected a time"),
        ("[model.a]\npinned = 1\n", "pinned: expected true or false"),
        ("[model.a]\naliases = 'x'\n", "aliases: expected a list of names"),
        ("[model]\na = 5\n", "model.a must be a section"),
        ("[aliases]\nx = 5\n", "aliases.x: expected the name of a model"),
        ("[log]\nlevel = 'loud'\n", "log.level"),
        ("[server]\ndrain = -1\n", "SHIMMY_DRAIN must be 0 or more"),
        ("[server]\nkeep_alive = 'x'\n", "server.keep_alive"),
        ("[[[\n", "is not TOML"),
    ],
)
def test_what_cannot_be_is_one_sentence_that_names_it(shimmy, write, text, words):
    path = write(text)
    result = shimmy("config")
    assert result.exit_code == 1
    assert words in result.stderr
    assert result.stderr.count("\n") == 1
    if "SHIMMY_" not in words:
        assert str(path) in result.stderr


def test_the_stronger_word_for_the_experts_place_ends_the_other(served, write):
    """Flags before a model's own section before the general one."""
    write("""
[engine]
cpu_moe = true
[model.few]
n_cpu_moe = 2
[model.none]
cpu_moe = false
[model.same]
n_ctx = 99
""")
    seen = served()
    assert (seen["options"].cpu_moe, seen["options"].n_cpu_moe) == (True, None)
    profiles = {name: one.engine for name, one in seen["settings"].profiles.items()}
    assert profiles["few"] == {"cpu_moe": False, "n_cpu_moe": 2}
    assert profiles["none"] == {"cpu_moe": False}
    assert profiles["same"] == {"n_ctx": 99}
    flagged = served("--n-cpu-moe", "3")
    assert (flagged["options"].cpu_moe, flagged["options"].n_cpu_moe) == (False, 3)
    assert not any("n_cpu_moe" in one.engine for one in flagged["settings"].profiles.values())


def test_a_models_own_section_may_name_its_projector(served, write, tmp_path):
    eyes = gguf.write_projector(tmp_path / "eyes.gguf")
    write(f"""
[engine]
mmproj_offload = false
[model.a]
mmproj = "{eyes}"
image_min_tokens = 64
[model.b]
use_mmproj = false
""")
    seen = served()
    assert (seen["options"].mmproj, seen["options"].mmproj_offload) == (None, False)
    profiles = {name: one.engine for name, one in seen["settings"].profiles.items()}
    assert profiles["a"] == {"mmproj": str(eyes), "image_min_tokens": 64}
    assert profiles["b"] == {"use_mmproj": False}


@pytest.mark.parametrize(
    ("flag", "field"), [("--no-mmproj", "use_mmproj"), ("--no-kv-unified", "kv_unified")]
)
def test_a_flags_no_wins_over_the_file_and_models_own_sections(served, write, flag, field):
    write(f"[engine]\n{field} = true\n[model.a]\n{field} = true\nn_ctx = 9\n")
    seen = served(flag)
    assert getattr(seen["options"], field) is False
    assert seen["settings"].profiles["a"].engine == {"n_ctx": 9}
    assert seen["settings"].values[f"engine.{field}"].value is False


def test_a_projector_of_a_flag_ends_the_files_word_that_there_are_none(served, write, tmp_path):
    eyes = gguf.write_projector(tmp_path / "eyes.gguf")
    write("[engine]\nuse_mmproj = false\n")
    options = served("--mmproj", eyes)["options"]
    assert (options.mmproj, options.use_mmproj) == (str(eyes), True)


def test_a_file_that_is_not_there_is_named(shimmy, monkeypatch):
    assert "--config: there is no file" in shimmy("config", "--config", "/nowhere.toml").stderr
    monkeypatch.setenv("SHIMMY_CONFIG", "/nowhere.toml")
    result = shimmy("serve")
    assert (result.exit_code, "SHIMMY_CONFIG" in result.stderr) == (1, True)


def test_a_file_that_may_not_be_looked_at_is_an_error_only_where_it_was_named(
    shimmy, shared, monkeypatch
):
    closed = shared / "closed"
    (closed / "shimmy").mkdir(parents=True)
    path = closed / "shimmy" / "shimmy.toml"
    path.write_text("[models]\nmax = 1\n")
    closed.chmod(0)
    monkeypatch.chdir(shared)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(closed))
    with nobody():
        result = shimmy("config")
        named = shimmy("config", "--config", path)
    assert (result.exit_code, result.stderr) == (0, "")
    assert (named.exit_code, named.stderr) == (
        1, f"error: {path} cannot be read: Permission denied\n"
    )  # fmt: skip


def test_the_file_reaches_the_engine_the_server_and_the_pool(served, write, tmp_path):
    adapter = gguf.write_lora(tmp_path / "x.gguf")
    write(f"""
[server]
bind = "127.0.0.1:8080"
api_keys = ["k1", "k2"]
drain = 5
[models]
max = 2
memory = "8GiB"
idle_unload = "5m"
[engine]
n_ctx = 4096
flash_attn = "on"
lora = ["{adapter}=0.5"]
tensor_split = [3, 1]
devices = "CUDA0"
kv_unified = false
cpu_moe = true
[log]
level = "info"
[aliases]
gpt = "a"
[model.a]
n_ctx = 99
preload = true
idle_unload = "1h"
aliases = ["gpt-4"]
""")
    seen = served()
    options, settings = seen["options"], seen["settings"]
    assert seen["spec"] == "127.0.0.1:8080"
    assert seen["config"].api_keys == ("k1", "k2")
    assert seen["config"].drain == 5.0
    assert (options.n_ctx, options.flash_attn, options.log_level) == (4096, "on", "info")
    assert options.lora == [(str(adapter), 0.5)]
    assert (options.tensor_split, options.devices) == ([3.0, 1.0], ["CUDA0"])
    assert (options.kv_unified, options.cpu_moe) == (False, True)
    budget = settings.budget()
    assert (budget.max_models, budget.memory) == (2, 8 * 2**30)
    assert settings["models.idle_unload"] == 300
    assert settings.aliases == {"gpt": "a", "gpt-4": "a"}
    profile = settings.profiles["a"]
    assert (profile.engine, profile.preload, profile.idle_unload) == ({"n_ctx": 99}, True, 3600)


def test_a_flag_wins_over_a_models_own_section(served, write):
    write("[model.a]\nn_ctx = 99\nn_threads = 2\n")
    assert served("-c", "5")["settings"].profiles["a"].engine == {"n_threads": 2}


def test_the_pool_flags_reach_the_pool(served):
    settings = served("--models-max", "2", "--models-memory", "3GB", "--idle-unload", "90s")[
        "settings"
    ]
    assert (settings.budget().max_models, settings.budget().memory) == (2, 3 * 10**9)
    assert settings["models.idle_unload"] == 90
    other = served("--max-loaded", "0", "--keep-alive", "-1")["settings"]
    assert (other.budget().max_models, other["models.idle_unload"]) == (0, math.inf)


def test_folders_of_the_file_are_searched_by_every_command(shimmy, write, tmp_path, monkeypatch):
    for name in ("one", "two", "three"):
        gguf.write(tmp_path / name / f"{name}.gguf")
    path = write(f'[models]\ndirs = ["{tmp_path}/one", "{tmp_path}/two"]\n')
    assert {"one", "two"} <= set(shimmy("list", "--short").stdout.split())
    monkeypatch.setenv("SHIMMY_MODEL_PATHS", f"{tmp_path}/three")
    assert "three" in shimmy("list", "--short").stdout.split()
    assert "one" not in shimmy("list", "--short").stdout.split()
    monkeypatch.delenv("SHIMMY_MODEL_PATHS")
    moved = path.rename(tmp_path / "moved.toml")
    assert "one" in shimmy("--config", moved, "list", "--short").stdout.split()


def test_a_model_of_the_file_is_served_first_and_must_load(served, write, tmp_path):
    mine = gguf.write(tmp_path / "mine.gguf")
    write(f'[models]\npath = "{mine}"\n')
    seen = served()
    assert seen["models"].resolve(None).name == "mine"
    assert seen["strict"]


@pytest.mark.parametrize(
    ("variable", "text", "key", "value"),
    [
        ("SHIMMY_CPU_THREADS", "3", "engine.n_threads", 3),
        ("SHIMMY_MAX_CTX", "2048", "engine.n_ctx", 2048),
        ("SHIMMY_GPU_BACKEND", "cpu", "engine.gpu_backend", "cpu"),
        ("SHIMMY_ENGINE_BACKEND", "cpu", "engine.gpu_backend", "cpu"),
        ("SHIMMY_KV_QUANT", "int4", "engine.cache_type_k", "q4_0"),
        ("SHIMMY_KV_QUANT", "F32", "engine.cache_type_v", "f32"),
        ("SHIMMY_PREFILL_CHUNK", "512", "engine.n_batch", 512),
        ("SHIMMY_ROPE_SCALE", "4", "engine.rope_freq_scale", 0.25),
        ("SHIMMY_LOG_FORMAT", "JSON", "log.format", "json"),
        ("SHIMMY_MMAP", "0", "engine.load_mode", "none"),
        ("SHIMMY_MMAP", "on", "engine.load_mode", "mmap"),
        ("SHIMMY_HOST", "0.0.0.0", "server.host", "0.0.0.0"),
        ("SHIMMY_PORT", "8080", "server.port", 8080),
        ("SHIMMY_BIND", "127.0.0.1:1", "server.bind", "127.0.0.1:1"),
        ("SHIMMY_MODEL", "/m.gguf", "models.path", "/m.gguf"),
        ("LIBSHIMMY_MODEL_PATH", "/m.gguf", "models.path", "/m.gguf"),
        ("SHIMMY_MODEL_DIRS", "/a;/b", "models.dirs", "/a;/b"),
        ("SHIMMY_MODELS_DIR", "/a", "models.dirs", "/a"),
        ("SHIMMY_MODELS_MAX", "0", "models.max", 0),
        ("SHIMMY_MAX_MEMORY", "2GiB", "models.memory", 2**31),
        ("SHIMMY_IDLE_UNLOAD", "5m", "models.idle_unload", 300.0),
        ("SHIMMY_LOG_LEVEL", "DEBUG", "log.level", "debug"),
        ("SHIMMY_DRAIN", "3", "server.drain", 3.0),
    ],
)
def test_variables_reach_their_settings(settings, monkeypatch, variable, text, key, value):
    monkeypatch.setenv(variable, text)
    assert settings()[key] == (value, variable)


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("SHIMMY_PORT", "http"),
        ("SHIMMY_MODELS_MAX", "-1"),
        ("SHIMMY_MAX_MEMORY", "much"),
        ("SHIMMY_IDLE_UNLOAD", "later"),
        ("SHIMMY_MMAP", "maybe"),
        ("SHIMMY_LOG_LEVEL", "loud"),
        ("SHIMMY_LOG_FORMAT", "xml"),
        ("SHIMMY_KV_QUANT", "int3"),
        ("SHIMMY_PREFILL_CHUNK", "all"),
        ("SHIMMY_ROPE_SCALE", "0.5"),
        ("SHIMMY_ROPE_SCALE", "nan"),
    ],
)
def test_a_variable_that_cannot_be_is_named(shimmy, monkeypatch, variable, text):
    monkeypatch.setenv(variable, text)
    result = shimmy("config")
    assert result.exit_code == 1
    assert variable in result.stderr


def test_host_and_port_of_the_environment_say_where_to_listen(served, monkeypatch):
    monkeypatch.setenv("SHIMMY_PORT", "8080")
    assert served()["spec"] == "127.0.0.1:8080"
    monkeypatch.setenv("SHIMMY_HOST", "::1")
    assert served()["spec"] == "[::1]:8080"
    assert served("--port", "9")["spec"] == "127.0.0.1:9"
    monkeypatch.setenv("SHIMMY_BIND_ADDRESS", "127.0.0.1:7")
    assert served()["spec"] == "auto"  # the address itself is read where it is bound


def test_other_names_of_a_variable_count_where_the_first_is_unset(monkeypatch, settings):
    monkeypatch.setenv("SHIMMY_MODEL_DIRS", "/old")
    monkeypatch.setenv("SHIMMY_MODEL_PATHS", "/new")
    assert settings()["models.dirs"] == ("/new", "SHIMMY_MODEL_PATHS")


def test_every_variable_of_the_rust_shimmy_is_known():
    """shimmy.md 3; not SHIMMY_URL, which its framework templates read, nor what its build read."""
    known = {name for item in VARIABLES for name in (item.name, *item.also)}
    assert known >= {
        "SHIMMY_BASE_GGUF", "SHIMMY_LORA_GGUF", "SHIMMY_MODEL_PATHS", "SHIMMY_BIND_ADDRESS",
        "SHIMMY_MAX_CTX", "SHIMMY_KV_QUANT", "SHIMMY_PREFILL_CHUNK", "SHIMMY_ROPE_SCALE",
        "SHIMMY_GPU_BACKEND", "SHIMMY_PORT", "SHIMMY_HOST", "SHIMMY_LOG_LEVEL",
        "SHIMMY_LOG_FORMAT", "SHIMMY_CPU_THREADS", "SHIMMY_MAX_MEMORY", "SHIMMY_MMAP",
        "SHIMMY_MODEL_DIRS", "SHIMMY_MODELS_DIR", "SHIMMY_MODEL", "SHIMMY_BIND",
        "SHIMMY_ENGINE_BACKEND", "LIBSHIMMY_MODEL_PATH", "SHIMMY_API_KEY",
    }  # fmt: skip


def test_no_variable_has_two_meanings():
    names = [name for item in VARIABLES for name in (item.name, *item.also)]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("300", 300), ("1.5s", 1.5), ("200ms", 0.2), ("5m", 300), ("2h", 7200), ("1d", 86400)],
)
def test_times(text, seconds):
    assert parse_duration(text) == pytest.approx(seconds)
    assert parse_duration("-1") == math.inf


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("5", 5),
        ("1KB", 1000),
        ("1.5 GiB", 3 * 2**29),
        ("2gb", 2 * 10**9),
        ("7B", 7),
        ("1T", 10**12),
    ],
)
def test_sizes(text, size):
    assert parse_size(text) == size
