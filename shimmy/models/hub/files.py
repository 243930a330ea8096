"""Which files of a repository make the model that was asked for: shards, quantisation, projector.

A repository's listing says only names and sizes, so names are what counts here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from shimmy.errors import InvalidRequestError
from shimmy.models.hub.names import is_safe

# the first of these that a repository has is taken where none is asked for
USUAL = ("Q4_K_M", "UD-Q4_K_XL", "Q4_K_S", "MXFP4", "Q4_0", "IQ4_XS", "Q5_K_M", "Q6_K", "Q8_0")
MMPROJ_TYPES = ("F16", "BF16", "Q8_0", "F32")

_QUANT = re.compile(
    r"(?:^|[-._/])((?:UD-)?(?:I?Q\d|TQ\d)(?:_\w+?)?|MXFP4(?:_MOE)?|NVFP4|BF16|F16|FP16|F32|FP32)"
    r"(?=$|[-./])",
    re.IGNORECASE,
)
_SHARD = re.compile(r"(?P<base>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Listed:
    """A file as a hub lists it: the name with `/` between its parts, the size in bytes."""

    name: str
    size: int
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class Variant:
    """One model of a repository: its file or all of its shards, in order."""

    base: str
    quant: str | None
    files: tuple[Listed, ...]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)

    @property
    def label(self) -> str:
        """What to ask for it by."""
        return self.quant or f"{self.base}.gguf"


def variants(listed: list[Listed]) -> list[Variant]:
    """Return the whole models in a listing; projectors, matrices and incomplete sets are none."""
    groups: dict[tuple[str, int], list[Listed]] = {}
    for file in sorted(listed, key=lambda file: file.name):
        if _is_model(file.name):
            stem = file.name[: -len(".gguf")]
            match = _SHARD.fullmatch(stem)
            key = (match["base"], int(match["count"])) if match else (stem, 1)
            groups.setdefault(key, []).append(file)
    return [
        Variant(base, quant_of(base), tuple(files))
        for (base, count), files in groups.items()
        if len(files) == count
    ]


def quant_of(stem: str) -> str | None:
    """Return the quantisation that a file's name says, the last if there are several."""
    found = _QUANT.findall(stem.rpartition("/")[2]) or _QUANT.findall(stem)
    return found[-1].upper() if found else None


def choose(repo: str, listed: list[Listed], wanted: str | None) -> Variant:
    """Return the model that is meant: by quantisation, by the file's name, or the usual one.

    Raises:
        InvalidRequestError: there is none, or there are several; lists what there is.
    """
    there = variants(listed)
    if not there:
        raise InvalidRequestError(
            f"{repo} has no GGUF model: look for a repository of its GGUF files", param="SPEC"
        )
    fitting = _named(there, wanted) if wanted else _usual(there)
    if fitting and len({variant.base for variant in fitting}) == 1:
        # the same model whole and in shards
        return min(fitting, key=lambda variant: len(variant.files))
    if fitting:
        names = ", ".join(f"{variant.base}.gguf" for variant in fitting)
        raise InvalidRequestError(
            f"{repo} has several models of that kind; name one by its file: {names}", param="SPEC"
        )
    shown = ", ".join(dict.fromkeys(variant.label for variant in there))
    raise InvalidRequestError(f"{repo} has no {wanted}; there are: {shown}", param="SPEC")


def projector(listed: list[Listed], variant: Variant) -> Listed | None:
    """Return the projector of a multimodal model, nearest to it and of the most usual type."""
    here = variant.base.rpartition("/")[0]
    found = [file for file in listed if is_safe(file.name) and _is_mmproj(file.name)]
    near = [file for file in found if file.name.rpartition("/")[0] == here]
    found = near or [file for file in found if "/" not in file.name]

    def rank(file: Listed) -> tuple[int, str]:
        quant = quant_of(file.name[: -len(".gguf")])
        order = {"FP16": "F16", "FP32": "F32"}.get(quant or "", quant)
        return (
            MMPROJ_TYPES.index(order) if order in MMPROJ_TYPES else len(MMPROJ_TYPES),
            file.name,
        )

    return min(found, key=rank, default=None)


def _named(there: list[Variant], wanted: str) -> list[Variant]:
    word = wanted.lower()
    by_quant = [variant for variant in there if (variant.quant or "").lower() == word]
    if by_quant:
        return by_quant
    stem = word.removesuffix(".gguf")
    stem = match["base"] if (match := _SHARD.fullmatch(stem)) else stem
    return [
        variant
        for variant in there
        if stem in {variant.base.lower(), variant.base.lower().rpartition("/")[2]}
    ]


def _usual(there: list[Variant]) -> list[Variant]:
    for quant in USUAL:
        if fitting := [variant for variant in there if variant.quant == quant]:
            return fitting
    return [min(there, key=lambda variant: variant.size)] if len(there) > 1 else there


def _is_model(name: str) -> bool:
    last = name.lower().rpartition("/")[2]
    return (
        last.endswith(".gguf") and is_safe(name) and not _is_mmproj(name) and "imatrix" not in last
    )


def _is_mmproj(name: str) -> bool:
    last = name.lower().rpartition("/")[2]
    return "mmproj" in last and last.endswith(".gguf")
