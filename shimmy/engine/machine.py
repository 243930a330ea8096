"""The GPUs of this machine as the operating system has them, whether or not a backend can use them."""

from __future__ import annotations

import os
import re
from pathlib import Path

import msgspec

VENDORS = {0x10DE: "NVIDIA", 0x1002: "AMD", 0x8086: "Intel"}
_DISPLAY_CLASSES = ("0x03", "0x12")  # display controllers, processing accelerators
_NVIDIA_VERSION = re.compile(r"\b(\d+\.\d+(?:\.\d+)?)\b")


class Card(msgspec.Struct, frozen=True, kw_only=True):
    """One graphics card on the PCI bus; `driver` is the kernel module bound to it, if any."""

    address: str
    vendor: str
    device: str
    driver: str | None = None


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """One device file that a GPU driver is reached through, and the group that may open it."""

    path: str
    group: str
    accessible: bool


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """What the system says of its GPUs."""

    cards: list[Card]
    nodes: list[Node]
    nvidia_driver: str | None = None

    def vendors(self) -> set[str]:
        """Return whose cards there are."""
        return {card.vendor for card in self.cards}


def look(root: Path = Path("/")) -> Machine:
    """Return what /sys, /proc and /dev below `root` show; nothing where there is none of them."""
    return Machine(cards=_cards(root), nodes=_nodes(root), nvidia_driver=_nvidia_driver(root))


def _cards(root: Path) -> list[Card]:
    cards = []
    for folder in sorted((root / "sys/bus/pci/devices").glob("*")):
        kind, vendor = _text(folder / "class"), _text(folder / "vendor")
        number = int(vendor, 16) if vendor.startswith("0x") else 0
        # the emulated cards of virtual machines are none to compute on
        if kind.startswith(_DISPLAY_CLASSES) and number in VENDORS:
            bound = folder / "driver"
            cards.append(
                Card(
                    address=folder.name,
                    vendor=VENDORS[number],
                    device=_text(folder / "device"),
                    driver=bound.resolve().name if bound.exists() else None,
                )
            )
    return cards


def _nodes(root: Path) -> list[Node]:
    patterns = ("nvidia[0-9]*", "nvidiactl", "nvidia-uvm", "dri/renderD*", "kfd")
    found = sorted(path for pattern in patterns for path in (root / "dev").glob(pattern))
    return [
        Node(
            path="/" + str(path.relative_to(root)),
            group=_group(path),
            accessible=os.access(path, os.R_OK | os.W_OK),
        )
        for path in found
    ]


def _nvidia_driver(root: Path) -> str | None:
    found = _NVIDIA_VERSION.search(_text(root / "proc/driver/nvidia/version"))
    return None if found is None else found[1]


def _group(path: Path) -> str:
    try:
        return path.group()
    except (KeyError, OSError):
        return "?"


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
