"""What trials have found, remembered for this machine and build in the user's cache folder."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from shimmy.llama.trial import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

# what decides which driver a library meets
_VARIABLES = (
    "LD_LIBRARY_PATH", "LD_PRELOAD", "CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES",
    "GGML_VK_VISIBLE_DEVICES", "VK_ICD_FILENAMES", "VK_DRIVER_FILES", "VK_ADD_DRIVER_FILES", "OCL_ICD_VENDORS",
    "OCL_ICD_FILENAMES", "GGML_OPENCL_PLATFORM", "GGML_OPENCL_DEVICE", "ONEAPI_DEVICE_SELECTOR",
)  # fmt: skip
# they change when a driver is installed or updated; ld.so.cache with any library
_DRIVER_FILES = (
    "/etc/ld.so.cache",
    "/etc/vulkan/icd.d",
    "/usr/share/vulkan/icd.d",
    "/etc/OpenCL/vendors",
    "/sys/module/amdgpu",
    "/dev/dri",
)
_NVIDIA_DRIVER = Path("/proc/driver/nvidia/version")
_CPU = Path("/proc/cpuinfo")
_CPU_BYTES = 4096
_MOST = 64


def folder() -> Path:
    """Return where verdicts are kept; it need not exist."""
    import platformdirs

    return platformdirs.user_cache_path("shimmy")


class Verdicts:
    """Verdicts by library, machine and build. A folder that cannot be written only costs time."""

    def __init__(self, directory: Path | None = None) -> None:
        """Read those in `directory`, by default the user's cache folder."""
        self._file = (directory or folder()) / "backends.json"
        self._machine = _machine()

    def of(self, path: Path, judge: Callable[[], Verdict], *, retry: bool = False) -> Verdict:
        """Return the verdict on a library, from `judge` if it is new or `retry` doubts a bad one."""
        key = self._key(path)
        known = self._read().get(key)
        if known is not None and (known.clean or not retry):
            return known
        verdict = judge()
        self._write({**self._read(), key: verdict})
        return verdict

    def forget(self) -> None:
        """Drop all verdicts."""
        with contextlib.suppress(OSError):
            self._file.unlink(missing_ok=True)

    def _key(self, path: Path) -> str:
        stamps = [_stamp(path), *(_stamp(base) for base in path.parent.glob("libggml-base.*"))]
        return hashlib.sha256(f"{path}{stamps}{self._machine}".encode()).hexdigest()

    def _read(self) -> dict[str, Verdict]:
        try:
            entries = json.loads(self._file.read_bytes())
            return {key: Verdict(**entry) for key, entry in entries.items()}
        except (OSError, ValueError, TypeError, AttributeError):
            return {}  # none yet, or another version's

    def _write(self, verdicts: dict[str, Verdict]) -> None:
        import tempfile

        latest = dict(list(verdicts.items())[-_MOST:])
        text = json.dumps({key: asdict(verdict) for key, verdict in latest.items()}, indent=1)
        with contextlib.suppress(OSError):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=self._file.parent, prefix=self._file.name)
            with os.fdopen(handle, "w") as file:
                file.write(text)
            Path(name).replace(self._file)  # another worker may be reading


def _stamp(path: Path | str) -> tuple[int, int]:
    try:
        stat = Path(path).stat()
    except OSError:
        return (0, 0)
    return (stat.st_size, stat.st_mtime_ns)


def _machine() -> str:
    return repr(
        (
            platform.machine(),
            platform.release(),
            _beginning(_CPU),
            _beginning(_NVIDIA_DRIVER),
            [_stamp(path) for path in _DRIVER_FILES],
            [os.environ.get(name) for name in _VARIABLES],
        )
    )


def _beginning(path: Path) -> str:
    """Return the first bytes of a file, without the lines that change while the machine runs."""
    try:
        with path.open("rb") as file:
            lines = file.read(_CPU_BYTES).decode("utf-8", "replace").splitlines()
    except OSError:
        return ""
    return "\n".join(line for line in lines[:30] if "MHz" not in line and "apicid" not in line)
