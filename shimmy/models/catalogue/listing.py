"""The catalogue, read from its file."""

from __future__ import annotations

import tomllib
from importlib.resources import files

import msgspec

from shimmy.errors import InvalidRequestError
from shimmy.models.catalogue.entry import CatalogueModel
from shimmy.models.naming import closest, loose


class Catalogue(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All models, and the bits that a parameter takes in each type of file."""

    bits: dict[str, float]
    models: tuple[CatalogueModel, ...]

    def find(self, name: str) -> CatalogueModel:
        """Return the model of that name, however it is written.

        Raises:
            InvalidRequestError: there is none; says which are alike.
        """
        for model in self.models:
            if loose(model.name) == loose(name):
                return model
        alike = closest(name, [model.name for model in self.models])
        meant = f" Did you mean {' or '.join(alike)}?" if alike else ""
        raise InvalidRequestError(
            f"the catalogue has no {name!r}.{meant} `shimmy recommend --all` lists it; any other "
            "model is pulled by hf:org/repo[:quantisation] or its URL",
            param="SPEC",
        )

    def weights(self, model: CatalogueModel, quant: str) -> int:
        """Return about how many bytes the weights take: parameters x bits / 8."""
        bits = model.bits.get(quant, self.bits.get(quant))
        if bits is None:
            raise KeyError(quant)
        return int(model.n_params * bits / 8)


def catalogue() -> Catalogue:
    """Read the catalogue that comes with the package."""
    text = files("shimmy.models.catalogue").joinpath("models.toml").read_text(encoding="utf-8")
    return msgspec.convert(tomllib.loads(text), Catalogue)
