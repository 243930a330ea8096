"""GGUF files with seeded damage: to counts, lengths, types, values, rows, or any byte of the header."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from shimmy.models.gguf.file import read_gguf
from shimmy.models.gguf.tensors import Tensor
from shimmy.models.gguf.types import FORMATS, ValueType

EXTREMES = (
    0,
    1,
    2,
    3,
    31,
    33,
    255,
    256,
    513,
    1025,
    65_536,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**63 - 1,
    2**63,
    2**64 - 1,
)
TEXTS = (
    "",
    "llama",
    "bert",
    "mamba",
    "clip",
    "gpt2",
    "spm",
    "yarn",
    "\0",
    "x" * 70_000,
    "{{ 1 / 0 }}",
    "{% for",
    "ä",
)


@dataclass
class Parts:
    """A file taken apart: pairs are (key, type, raw value), rows are the tensor table's."""

    version: int
    pairs: list[tuple[bytes, int, bytes]]
    rows: list[Tensor]
    size: int
    n_pairs: int | None = None
    n_rows: int | None = None
    types: dict[str, int] = field(default_factory=dict)

    def join(self) -> bytes:
        """Return the header."""
        counts = (
            len(self.rows) if self.n_rows is None else self.n_rows,
            len(self.pairs) if self.n_pairs is None else self.n_pairs,
        )
        out = [b"GGUF", struct.pack("<I", self.version), *(_u64(count) for count in counts)]
        for key, kind, value in self.pairs:
            out += [_u64(len(key)), key, _u32(kind), value]
        for row in self.rows:
            name = row.name.encode()
            out += [_u64(len(name)), name, _u32(len(row.shape)), *(_u64(n) for n in row.shape)]
            out += [_u32(int(row.type)), _u64(row.offset)]
        return b"".join(out)


def take_apart(path: Path) -> Parts:
    """Take a good file apart. Rows keep their type as a number in text."""
    from shimmy.models.gguf.types import TENSOR_TYPES

    numbers = {kind.name: number for number, kind in TENSOR_TYPES.items()}
    gguf, content = read_gguf(path), path.read_bytes()
    pairs, at = [], 24
    for key in gguf.metadata.fields:
        length = len(key.encode())
        at += 8
        name = content[at : at + length]
        (kind,) = struct.unpack_from("<I", content, at + length)
        start = at + length + 4
        at = _end(content, kind, start)
        pairs.append((name, kind, content[start:at]))
    rows = [
        Tensor(name=t.name, type=str(numbers[t.type]), shape=t.shape, offset=t.offset, size=t.size)
        for t in gguf.tensors
    ]
    return Parts(gguf.version, pairs, rows, gguf.size)


def mutant(parts: Parts, rng: random.Random) -> bytes:
    """Return a damaged header; one to three things are wrong with it."""
    copy = Parts(parts.version, list(parts.pairs), list(parts.rows), parts.size)
    raw: list[Callable[[bytearray, random.Random], None]] = []
    for _ in range(rng.choice((1, 1, 2, 3))):
        change = rng.choice((_value, _value, _value, _pair, _pair, _row, _row, _count, _bytes))
        if change is _bytes:
            raw.append(_bytes)
        else:
            change(copy, rng)
    content = bytearray(copy.join())
    for damage in raw:
        damage(content, rng)
    return bytes(content)


def write(path: Path, header: bytes, size: int) -> Path:
    """Write a header, with nothing but zeros (a hole) for tensors up to the good file's size."""
    with path.open("wb") as file:
        file.write(header)
        file.truncate(max(size, len(header)))
    return path


def _value(parts: Parts, rng: random.Random) -> None:
    """Give a key another value of its own type, or one of another type."""
    index = rng.randrange(len(parts.pairs))
    key, kind, _ = parts.pairs[index]
    if rng.random() < 0.25:
        kind = rng.choice((*ValueType, 13, 2**32 - 1))
    if kind == ValueType.STRING:
        value = _string(rng.choice(TEXTS))
    elif kind == ValueType.ARRAY:
        value = _array(rng)
    elif kind in (ValueType.FLOAT32, ValueType.FLOAT64):
        value = FORMATS[ValueType(kind)].pack(
            rng.choice((0.0, -1.0, 1e30, float("nan"), float("inf")))
        )
    elif kind in FORMATS:
        width = FORMATS[ValueType(kind)].size
        value = rng.choice(EXTREMES).to_bytes(8, "little")[:width]
    else:
        value = bytes(4)
    parts.pairs[index] = (key, kind, value)


def _array(rng: random.Random) -> bytes:
    kind = rng.choice((*ValueType, 99))
    count = rng.choice((0, 1, 2, 3, 382, 1025, 2**32, 2**60))
    real = min(count, 1100)
    if kind == ValueType.STRING:
        body = _string("x") * real
    else:
        body = bytes(real * (FORMATS[kind].size if kind in FORMATS else 4))
    return _u32(kind) + _u64(count) + body


def _pair(parts: Parts, rng: random.Random) -> None:
    """Drop, double, swap, rename or cut a pair."""
    index = rng.randrange(len(parts.pairs))
    key, kind, value = parts.pairs[index]
    what = rng.randrange(6)
    if what == 0:
        del parts.pairs[index]
    elif what == 1:
        parts.pairs.append(parts.pairs[index])
    elif what == 2:
        other = rng.randrange(len(parts.pairs))
        parts.pairs[index] = (key, *parts.pairs[other][1:])
    elif what == 3:
        parts.pairs[index] = (
            rng.choice((b"", b"\xff", key + b"x", b"split.count", b"adapter.type")),
            kind,
            value,
        )
    elif what == 4:
        parts.pairs[index] = (key, kind, value[: rng.randrange(len(value) + 1)])
    else:
        length = _u64(rng.choice(EXTREMES))
        parts.pairs[index] = (key, kind, length + value[8:])


def _row(parts: Parts, rng: random.Random) -> None:
    """Change the name, the shape, the type or the place of a tensor, or drop it."""
    if not parts.rows:
        return
    index = rng.randrange(len(parts.rows))
    row = parts.rows[index]
    name, shape, kind, offset = row.name, list(row.shape), row.type, row.offset
    what = rng.randrange(6)
    if what == 0:
        del parts.rows[index]
        return
    if what == 1:
        name = rng.choice(
            ("", "x" * 63, "x" * 64, "x" * 1000, parts.rows[0].name, "blk.9999.attn_q.weight")
        )
    elif what == 2 and shape:
        shape[rng.randrange(len(shape))] = rng.choice(EXTREMES)
    elif what == 3:
        shape = [rng.choice((0, 1, 32)) for _ in range(rng.randrange(7))]
    elif what == 4:
        kind = str(rng.choice((*range(45), 2**31, 2**32 - 1)))
    else:
        offset = rng.choice((0, 1, 32, offset + 32, 2**62, 2**64 - 32))
    parts.rows[index] = Tensor(name=name, type=kind, shape=tuple(shape), offset=offset, size=0)


def _count(parts: Parts, rng: random.Random) -> None:
    """Say another number of pairs or tensors, or another version."""
    what = rng.randrange(4)
    near = rng.choice((-1, 1))
    if what == 0:
        parts.version = rng.choice((0, 1, 2, 4, 0x03000000, 2**32 - 1))
    elif what == 1:
        parts.n_pairs = rng.choice((*EXTREMES, len(parts.pairs) + near))
    else:
        parts.n_rows = rng.choice((*EXTREMES, max(0, len(parts.rows) + near)))


def _bytes(content: bytearray, rng: random.Random) -> None:
    """Change, cut out or put in some bytes anywhere; or cut the header short."""
    at = rng.randrange(4, len(content))
    what = rng.randrange(4)
    if what == 0:
        content[at] = rng.randrange(256)
    elif what == 1:
        del content[at : at + rng.randint(1, 16)]
    elif what == 2:
        content[at:at] = rng.randbytes(rng.randint(1, 16))
    else:
        del content[at:]


def _end(content: bytes, kind: int, at: int) -> int:
    if kind == ValueType.STRING:
        return at + 8 + struct.unpack_from("<Q", content, at)[0]
    if kind != ValueType.ARRAY:
        return at + FORMATS[ValueType(kind)].size
    item, count = struct.unpack_from("<IQ", content, at)
    at += 12
    for _ in range(count):
        at = _end(content, item, at)
    return at


def _string(text: str) -> bytes:
    data = text.encode()
    return _u64(len(data)) + data


def _u32(number: int) -> bytes:
    return struct.pack("<I", number)


def _u64(number: int) -> bytes:
    return struct.pack("<Q", number)
