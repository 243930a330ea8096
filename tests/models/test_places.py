"""Where models lie on each system, from what a machine says of itself."""

from __future__ import annotations

from pathlib import PurePosixPath, PureWindowsPath

import pytest

from shimmy.models.stores.places import Machine, places, split_paths


def found(
    platform: str, home: str, environ: dict[str, str] | None = None, **options: str
) -> list[str]:
    machine = Machine(
        platform=platform, environ=environ or {}, home=home, cwd=options.pop("cwd", home)
    )
    all_of_them = places(
        machine, base_gguf=options.get("base_gguf", ""), listed=options.get("listed", "")
    )
    assert all(path.is_absolute() for path in all_of_them)
    assert len(set(all_of_them)) == len(all_of_them)
    return [path.as_posix() for path in all_of_them]


def test_linux():
    assert found("linux", "/home/ann", cwd="/work", base_gguf="phi/m.gguf", listed="/a;b:~/c") == [
        "/work/models",
        "/work/phi",
        "/a",
        "/work/b",
        "/home/ann/c",
        "/home/ann/models",
        "/home/ann/.local/share/shimmy/models",
        "/home/ann/.cache/huggingface/hub",
        "/home/ann/.ollama/models",
        "/usr/share/ollama/.ollama/models",
        "/var/lib/ollama",
        "/home/ann/.lmstudio/models",
        "/home/ann/.cache/lm-studio/models",
        "/home/ann/.cache/llama.cpp",
    ]


def test_macos():
    assert found("darwin", "/Users/ann") == [
        "/Users/ann/models",
        "/Users/ann/Library/Application Support/shimmy/models",
        "/Users/ann/.local/share/shimmy/models",
        "/Users/ann/.cache/huggingface/hub",
        "/Users/ann/.ollama/models",
        "/Users/ann/.lmstudio/models",
        "/Users/ann/.cache/lm-studio/models",
        "/Users/ann/Library/Caches/llama.cpp",
    ]


def test_issue_105_windows():
    environ = {
        "LOCALAPPDATA": r"C:\Users\ann\AppData\Local",
        "APPDATA": r"C:\Users\ann\AppData\Roaming",
        "USERNAME": "ann",
    }
    assert found("win32", r"C:\Users\ann", environ, cwd=r"D:\work", listed=r"E:\m;~\n") == [
        "D:/work/models",
        "E:/m",
        "C:/Users/ann/n",
        "C:/Users/ann/models",
        "C:/Users/ann/AppData/Local/shimmy/models",
        "C:/Users/ann/.local/share/shimmy/models",
        "C:/Users/ann/.cache/huggingface/hub",
        "C:/Users/ann/.ollama/models",
        "C:/Users/ann/AppData/Local/Ollama/models",
        "C:/Ollama/models",
        "D:/Ollama/models",
        "E:/Ollama/models",
        "F:/Ollama/models",
        "D:/Users/ann/AppData/Local/Ollama/models",
        "E:/Users/ann/AppData/Local/Ollama/models",
        "F:/Users/ann/AppData/Local/Ollama/models",
        "C:/Users/ann/.lmstudio/models",
        "C:/Users/ann/.cache/lm-studio/models",
        "C:/Users/ann/AppData/Roaming/LM Studio/models",
        "C:/Users/ann/AppData/Local/llama.cpp",
        "C:/Users/ann/Downloads",
        "C:/models",
        "D:/models",
        "E:/models",
        "F:/models",
    ]


def test_on_windows_the_home_of_unix_shells_is_searched_too():
    both = found("win32", r"C:\Users\ann", {"HOME": r"D:\ann"})
    one = found("win32", r"C:\Users\ann", {"HOME": "/d/ann"})
    for folder in ("models", ".local/share/shimmy/models", ".ollama/models", ".lmstudio/models"):
        assert f"D:/ann/{folder}" in both
        assert f"C:/Users/ann/{folder}" in both
    assert not [path for path in one if "d/ann" in path]
    assert "/other/models" not in found("linux", "/home/ann", {"HOME": "/other"})


@pytest.mark.parametrize(
    ("variable", "value", "folder"),
    [
        ("HF_HUB_CACHE", "/big/hub", "/big/hub"),
        ("HUGGINGFACE_HUB_CACHE", "/old/hub", "/old/hub"),
        ("HF_HOME", "~/hf", "/home/ann/hf/hub"),
        ("OLLAMA_MODELS", "/big/ollama", "/big/ollama"),
        ("LLAMA_CACHE", "/big/llama", "/big/llama"),
        ("XDG_DATA_HOME", "/data", "/data/shimmy/models"),
        ("XDG_CACHE_HOME", "/cache", "/cache/huggingface/hub"),
        ("XDG_CACHE_HOME", "/cache", "/cache/llama.cpp"),
    ],
)
def test_variables_name_folders(variable, value, folder):
    assert folder in found("linux", "/home/ann", {variable: value})
    assert folder not in found("linux", "/home/ann", {variable: " "})


def test_the_rust_shimmys_own_folder_is_searched_wherever_ours_lies():
    for platform in ("linux", "darwin"):
        roots = found(platform, "/home/ann", {"XDG_DATA_HOME": "/data"})
        assert "/home/ann/.local/share/shimmy/models" in roots


def test_issue_101_ollamas_variable_comes_before_its_default():
    roots = found("linux", "/home/ann", {"OLLAMA_MODELS": "/o"})
    assert roots.index("/o") < roots.index("/home/ann/.ollama/models")


def test_issue_51_both_folders_of_lm_studio_are_searched():
    roots = found("linux", "/home/ann")
    assert {"/home/ann/.lmstudio/models", "/home/ann/.cache/lm-studio/models"} <= set(roots)


def test_folders_are_split_at_semicolons_and_the_systems_separator():
    assert split_paths("/a;/b:/c; /d ;;:", "linux") == ["/a", "/b", "/c", "/d"]
    assert split_paths("", "linux") == []
    assert split_paths(r"C:\models;D:\more", "win32") == [r"C:\models", r"D:\more"]


def test_paths_are_those_of_the_system():
    posix = Machine(platform="linux", environ={}, home="/h", cwd="/w")
    assert posix.path("~/x") == PurePosixPath("/h/x")
    assert posix.path("~") == PurePosixPath("/h")
    assert posix.path("~ann/x") == PurePosixPath("/w/~ann/x")
    windows = Machine(platform="win32", environ={}, home="C:/h", cwd="D:/w")
    assert windows.path("x\\y") == PureWindowsPath("D:/w/x/y")
