"""Further names for models, which may be pointed at another model while requests run."""

from __future__ import annotations

from collections.abc import Mapping

from shimmy.errors import InvalidRequestError

MAX_ALIASES = 1000
MAX_NAME = 200


class Aliases:
    """Alias to model name. A request's alias is looked up once, so it is one model's throughout."""

    def __init__(
        self, aliases: Mapping[str, str] | None = None, *, default: str | None = None
    ) -> None:
        """Begin with `aliases`; the one called `default` is meant where no name is given."""
        self._targets = dict(aliases or {})
        self._default = default

    def all(self) -> dict[str, str]:
        """Return all aliases and what they mean."""
        return dict(self._targets)

    def target(self, name: str | None) -> str | None:
        """Return the model's name that `name` stands for, or `name`."""
        if name:
            return self._targets.get(name, name)
        return self._targets.get(self._default) if self._default else None

    def point(self, alias: str, model: str) -> None:
        """Let `alias` mean the model called `model` from now on.

        Raises:
            InvalidRequestError: the alias cannot be a name, or there are too many.
        """
        if not alias or len(alias) > MAX_NAME or not alias.isprintable():
            raise InvalidRequestError(
                f"an alias is 1 to {MAX_NAME} printable characters", param="alias"
            )
        if alias not in self._targets and len(self._targets) >= MAX_ALIASES:
            raise InvalidRequestError(
                f"there are {MAX_ALIASES} aliases already; remove some", param="alias"
            )
        self._targets[alias] = model

    def remove(self, alias: str) -> bool:
        """Forget an alias; tell whether it was there."""
        return self._targets.pop(alias, None) is not None
