"""What each backend needs of the machine, for the messages of those who miss it."""

from __future__ import annotations

_NEEDS = {
    "cuda": "NVIDIA's driver (`nvidia-smi` shows the GPU) and the CUDA run-time libraries",
    "vulkan": "a Vulkan driver and libvulkan1 (`vulkaninfo --summary` lists the devices)",
    "opencl": "an OpenCL driver and its loader (`clinfo -l` lists the devices), and an Adreno or Intel GPU",
    "metal": "an Apple GPU with macOS",
    "hip": "AMD's ROCm run-time (`rocminfo` lists the devices)",
    "sycl": "Intel's oneAPI run-time (`sycl-ls` lists the devices)",
    "musa": "Moore Threads' MUSA run-time",
    "cann": "Huawei's CANN run-time (`npu-smi info` lists the devices)",
}


def needs(flag: str) -> str | None:
    """Return what the backend of --gpu-backend `flag` needs to be there; None for auto and cpu."""
    return _NEEDS.get(flag)
