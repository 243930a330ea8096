from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from shimmy.errors import BackendError
from shimmy.llama import DeviceType, backend
from shimmy.llama._ffi import LIB_DIR


def test_there_is_a_cpu() -> None:
    cpu = next(device for device in backend.devices() if device.type is DeviceType.CPU)
    assert cpu.name == "CPU"
    assert cpu.backend == "CPU"
    assert cpu.buffer_type == "CPU"
    assert 0 < cpu.memory_free <= cpu.memory_total
    assert cpu.description
    assert cpu.caps.mmap_support


def test_backends_say_where_they_come_from_and_what_they_can() -> None:
    found = {one.name: one for one in backend.backends()}
    cpu = found["CPU"]
    assert cpu.devices == ("CPU",)
    assert cpu.file is not None
    assert cpu.file.resolve().parent == LIB_DIR.resolve()
    assert cpu.features


def test_modules_that_are_in_use_say_so() -> None:
    modules = backend.modules()
    assert any(one.name.startswith("cpu") and one.loaded for one in modules)
    for one in modules:
        assert one.loaded == (one.reason is None)


def test_system_info_names_the_cpu() -> None:
    assert "CPU" in backend.system_info()


def test_buffer_types_are_those_of_the_devices() -> None:
    assert set(backend.buffer_types()) == {device.buffer_type for device in backend.devices()}


def test_init_twice_changes_nothing() -> None:
    before = backend.backends()
    backend.init()
    assert backend.backends() == before


def test_a_module_that_cannot_be_loaded_says_why(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="cannot open shared object"):
        backend.load_module(tmp_path / "libggml-none.so")
    text = tmp_path / "libggml-text.so"
    text.write_text("no library")
    with pytest.raises(BackendError) as caught:
        backend.load_module(text)
    assert caught.value.log


def test_a_directory_without_modules_adds_nothing(tmp_path: Path) -> None:
    assert backend.load_dir(tmp_path) == ()


def test_an_rpc_server_that_does_not_answer_is_an_error() -> None:
    with pytest.raises(BackendError, match=r"127\.0\.0\.1:1"):
        backend.add_rpc_server("127.0.0.1:1")


def test_a_module_whose_driver_is_missing_stops_nothing(tmp_path: Path) -> None:
    """A module needs a library that is not there: the CPU works, and the report names it."""
    source = tmp_path / "module.c"
    source.write_text("void driver(void); void *ggml_backend_init(void) { driver(); return 0; }")
    driver = tmp_path / "driver.c"
    driver.write_text("void driver(void) {}")
    lib = tmp_path / "libnosuchdriver.so"
    run(["cc", "-shared", "-fPIC", "-o", str(lib), str(driver)])
    module = tmp_path / "modules" / "libggml-cuda.so"
    module.parent.mkdir()
    run(["cc", "-shared", "-fPIC", "-o", str(module), str(source), str(lib)])
    lib.unlink()
    script = f"""
from shimmy.llama import backend
assert backend.load_dir({str(module.parent)!r}) == ()
assert backend.devices()
[one] = [one for one in backend.modules() if one.name == "cuda"]
assert not one.loaded
print(one.reason)
"""
    assert "libnosuchdriver.so" in run([sys.executable, "-c", script])


def test_a_module_that_refuses_to_start_and_one_that_is_none_say_so(tmp_path: Path) -> None:
    for name, code in (
        ("cuda", "void *ggml_backend_init(void) { return 0; }"),
        ("vulkan", "int nothing;"),
        ("cpu-other", "int ggml_backend_score(void) { return 0; }"),
    ):
        source = tmp_path / f"{name}.c"
        source.write_text(code)
        run(["cc", "-shared", "-fPIC", "-o", str(tmp_path / f"libggml-{name}.so"), str(source)])
    script = f"""
from shimmy.llama import backend
backend.load_dir({str(tmp_path)!r})
for one in backend.modules():
    print(one.name, one.reason)
"""
    said = run([sys.executable, "-c", script])
    assert "cuda its driver was found, but refused to start" in said
    assert "vulkan not a backend module" in said
    assert "cpu-other this CPU lacks instructions" in said


def test_no_device_at_all_is_an_error_that_lists_the_directory(tmp_path: Path) -> None:
    (tmp_path / "libggml-nothing.so").touch()
    script = f"""
from pathlib import Path
from shimmy.errors import BackendError
from shimmy.llama import backend
backend.LIB_DIR = Path({str(tmp_path)!r})
for _ in range(2):
    try:
        backend.init()
    except BackendError as error:
        print(error)
"""
    said = run([sys.executable, "-c", script])
    if "no backend could be loaded" not in said:
        pytest.skip("this build has its backends linked in, so there is always a device")
    assert said.count("libggml-nothing.so") == 2


def test_importing_shimmy_opens_no_library() -> None:
    script = "import sys, shimmy, shimmy.errors; print([m for m in sys.modules if 'llama' in m])"
    assert run([sys.executable, "-c", script]).strip() == "[]"


def run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
