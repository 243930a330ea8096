"""Ownership of native objects: explicit close, certain order, a finalizer as the net."""

from __future__ import annotations

import os
import warnings
import weakref
from typing import TYPE_CHECKING, Self

from shimmy.errors import ClosedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from shimmy.llama._ffi import CData


class _Native:
    """The pointer and what it needs, apart from the handle so that the finalizer can hold them."""

    def __init__(self, kind: str, ptr: CData, free: Callable[[CData], None]) -> None:
        self.kind = kind
        self.ptr = ptr
        self.free = free
        self.parents: list[Handle] = []
        self.pid = os.getpid()

    def release(self) -> None:
        """Free the object and let go of the parents.

        Not in a forked child: the backends' threads are not there, and freeing could hang.
        """
        if os.getpid() == self.pid:
            self.free(self.ptr)
        self.parents.clear()


def _free_forgotten(native: _Native) -> None:
    """Free what nobody closed; runs in the garbage collector or at exit, children before parents."""
    native.release()
    warnings.warn(f"{native.kind} was not closed", ResourceWarning, stacklevel=2)


class Handle:
    """Owns one native object and frees it once.

    A handle keeps its parents alive until it is closed, and closing a parent closes its children
    first, so the free order is right whoever goes first. Thread: the object's owner, or any thread
    once no other uses it.
    """

    def __init__(self, ptr: CData, free: Callable[[CData], None], *parents: Handle) -> None:
        """Take over `ptr`; subclasses call this last, so that nothing is left behind if they raise."""
        self._native = _Native(type(self).__name__, ptr, free)
        self._children: list[weakref.ref[Handle]] = []
        self._finalizer = weakref.finalize(self, _free_forgotten, self._native)
        for parent in parents:
            self._depend_on(parent)

    @property
    def ptr(self) -> CData:
        """The native pointer, for this package only; raises `ClosedError` after `close()`."""
        if not self._finalizer.alive:
            raise ClosedError(f"this {self._native.kind} is closed")
        return self._native.ptr

    @property
    def closed(self) -> bool:
        """Whether the native object is gone, or now owned by another."""
        return not self._finalizer.alive

    def close(self) -> None:
        """Free the native object, its children before it; does nothing the second time."""
        native = self._detach()
        if native is not None:
            native.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self.closed else "open"
        return f"<{self._native.kind} {state}>"

    def spare_at_exit(self) -> None:
        """Do not free this and its children at the interpreter's exit: a thread that nobody waits for is in them."""
        self._finalizer.atexit = False
        for reference in self._children:
            child = reference()
            if child is not None:
                child.spare_at_exit()

    def give_to(self, owner: Handle) -> CData:
        """Hand the pointer over to `owner`'s native object, which will need our parents."""
        for parent in self._native.parents:
            owner._depend_on(parent)
        return self._release()

    def _release(self) -> CData:
        """Give up the pointer to a new native owner; this handle is closed afterwards."""
        ptr = self.ptr
        self._detach()
        return ptr

    def _depend_on(self, parent: Handle) -> None:
        """Keep `parent` alive and be closed before it."""
        if parent.closed:
            raise ClosedError(f"this {parent._native.kind} is closed")
        if parent in self._native.parents:
            return
        self._native.parents.append(parent)
        parent._children = [child for child in parent._children if child() is not None]
        parent._children.append(weakref.ref(self))
        if not parent._finalizer.atexit:
            self._finalizer.atexit = False

    def _detach(self) -> _Native | None:
        """Close the children and leave the net; None when that has been done before."""
        if self._finalizer.detach() is None:
            return None
        for reference in reversed(self._children):
            child = reference()
            if child is not None:
                child.close()
        return self._native
