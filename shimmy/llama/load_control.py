"""Progress and cancellation of one model load, shared between the loading thread and others."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shimmy.llama._ffi import CData, ffi, lib

if TYPE_CHECKING:
    from collections.abc import Callable


class LoadControl:
    """Give it to `Model.load`, then ask or cancel from any thread. One load each."""

    def __init__(self) -> None:
        # freed with this object: a load holds a reference for as long as it runs
        self._load = ffi.gc(lib.shm_load_new(), lib.shm_load_free)
        if self._load == ffi.NULL:
            raise MemoryError

    def cancel(self) -> None:
        """Make the load give up at the next tensor."""
        lib.shm_load_cancel(self._load)

    @property
    def cancelled(self) -> bool:
        """Whether `cancel()` was called."""
        return bool(lib.shm_load_cancelled(self._load))

    @property
    def progress(self) -> float:
        """The part of the tensors that is loaded, 0 to 1."""
        return float(lib.shm_load_progress(self._load))

    @property
    def ptr(self) -> CData:
        """The native object, for this package only."""
        return self._load


class ProgressRelay:
    """Carries progress from C to a Python function, and its exception back out of the load.

    C calls on the thread that loads, with the GIL taken for the call. The exception cannot pass
    through C: it is kept, the load is given up, and `Model.load` raises it.
    """

    def __init__(self, report: Callable[[float], None]) -> None:
        self._report = report
        self.error: BaseException | None = None
        self.handle = ffi.new_handle(self)

    def __call__(self, progress: float) -> bool:
        """Report; False gives the load up."""
        try:
            self._report(progress)
        except BaseException as error:  # noqa: BLE001 - raised again by Model.load
            self.error = error
        return self.error is None


@ffi.def_extern()  # type: ignore[untyped-decorator]
def shimmy_load_progress(progress: float, handle: CData) -> bool:
    """Called by llama.cpp; see ProgressRelay."""
    relay: ProgressRelay = ffi.from_handle(handle)
    return relay(progress)
