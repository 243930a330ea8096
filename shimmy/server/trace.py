"""What is noted of one request on its way: for the log, the response's headers, and its errors."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field

from shimmy.server.errors import Problem

_SANE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


@dataclass(slots=True)
class Trace:
    """One request: its id, what its endpoint's errors look like, and what it produced."""

    id: str
    error_form: Callable[[Problem], bytes] | None = None
    n_tokens: int | None = None
    client_gone: bool = field(default=False)

    @classmethod
    def begin(cls, given: str | None) -> Trace:
        """Take the id that the client sent, if it is harmless in a log, or make one."""
        if given is not None and _SANE_ID.fullmatch(given):
            return cls(id=given)
        return cls(id=f"req_{secrets.token_hex(12)}")
