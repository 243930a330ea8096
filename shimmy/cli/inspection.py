"""How `shimmy inspect` shows a header."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click
import msgspec

from shimmy.cli.console import print_table, sized
from shimmy.cli.listing import counted
from shimmy.models.gguf.metadata import Field
from shimmy.models.inspection import Inspection

# A longer text is cut in the table; JSON has all of it.
_MAX_TEXT = 200


def show(inspection: Inspection, *, tensors: bool) -> None:
    """Print the facts, and with `tensors` the table of tensors."""
    figures = {label: value for label, value in _figures(inspection) if value not in {None, ""}}
    width = max(map(len, figures))
    for label, value in figures.items():
        click.echo(f"{label:<{width}}  {value}")
    if tensors:
        click.echo()
        rows = [
            (tensor.name, tensor.type, " x ".join(map(str, tensor.shape)), sized(tensor.size))
            for file in inspection.files.values()
            for tensor in file.tensors
        ]
        print_table(("TENSOR", "TYPE", "SHAPE", ">SIZE"), rows)


def as_data(inspection: Inspection, *, tensors: bool) -> dict[str, Any]:
    """Return the facts and all metadata; arrays that were too long to keep by their length."""
    data: dict[str, Any] = {
        "model": inspection.entry,
        "facts": inspection.facts,
        "gguf_version": inspection.first.version,
        "tensor_types": inspection.tensor_types,
        "files": [
            {"path": path, "size": file.size, "n_tensors": len(file.tensors)}
            for path, file in inspection.files.items()
        ],
        "metadata": {key: _value(field) for key, field in inspection.first.metadata.fields.items()},
    }
    if tensors:
        data["tensors"] = [
            msgspec.structs.asdict(tensor) | {"file": number}
            for number, file in enumerate(inspection.files.values())
            for tensor in file.tensors
        ]
    return data


def _value(field: Field) -> object:
    if field.value is None:
        item = f" of {field.item_type.name.lower()}" if field.item_type is not None else ""
        return {"omitted": field.type.name.lower() + item, "n_items": field.n_items}
    return field.value


def _figures(inspection: Inspection) -> Iterator[tuple[str, object]]:
    entry, facts, metadata = inspection.entry, inspection.facts, inspection.first.metadata
    types = ", ".join(f"{n} {name}" for name, n in inspection.tensor_types.items())
    experts = f"{facts.n_expert}, {facts.n_expert_used} at a time" if facts.n_expert else None
    yield "path", entry.path
    yield "served as", ", ".join((entry.title, *entry.aliases))
    yield "name", facts.name
    yield "kind", facts.kind
    yield "architecture", facts.architecture
    yield "size label", facts.size_label
    yield "parameters", f"{entry.n_params:,} ({counted(entry.n_params)})"
    yield "quantisation", facts.quantisation
    yield "tensors", f"{sum(inspection.tensor_types.values())}: {types}" if types else "none"
    yield "size", _size(inspection)
    yield "context", f"{facts.n_ctx_train:,} tokens" if facts.n_ctx_train else None
    yield "layers", facts.n_layer
    yield "width", facts.n_embd
    yield "experts", experts
    yield "tokenizer", facts.tokenizer
    yield "vocabulary", f"{facts.n_vocab:,} tokens" if facts.n_vocab else None
    yield "chat template", _templates(inspection)
    yield "licence", metadata.text("general.license")
    yield "fitting adapters", ", ".join(adapter.path for adapter in entry.adapters)
    yield "adapters", ", ".join(path for path, _ in entry.lora)
    yield "projector", entry.projector and f"{entry.projector} ({entry.projector_use})"
    yield "input", "text, images" if entry.sees else None
    yield "projector for", ", ".join(facts.senses)
    yield "system", _short(entry.system)
    yield "defaults", ", ".join(f"{key}={value}" for key, value in entry.parameters.items())
    yield "cannot be loaded", entry.objection


def _size(inspection: Inspection) -> str:
    shards = len(inspection.files)
    of = f" in {shards} files" if shards > 1 else ""
    return f"{sized(inspection.entry.size)}{of}, GGUF version {inspection.first.version}"


def _templates(inspection: Inspection) -> str | None:
    facts = inspection.facts
    if not facts.has_template:
        return "from Ollama's" if inspection.entry.chat_template else "none"
    return ", ".join(("yes", *facts.templates))


def _short(text: str | None) -> str | None:
    line = " ".join(text.split()) if text else None
    return line if line is None or len(line) <= _MAX_TEXT else line[: _MAX_TEXT - 1] + "…"
