"""Check, copy and patch the pinned llama.cpp tree. Standard library only: it runs inside the build.

The tree in site-packages is shared and may be read-only, and a user's own checkout is theirs: neither is ever written to.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
from pathlib import Path

PIN = Path(__file__).with_name("pin.json")

# of each patched file, the (patch name, hunks)
Patches = dict[str, list[tuple[str, str]]]


class PatchError(Exception):
    """A hunk whose old text is not in the file exactly once."""


def files(tree: Path, roots: list[str]) -> list[Path]:
    """List the files below `roots`, relative to `tree`; byte code that pip compiles on installation is not part of it."""
    found: list[Path] = []
    for root in roots:
        top = tree / root
        below = top.rglob("*") if top.is_dir() else [top]
        found += [
            p.relative_to(tree) for p in below if p.is_file() and "__pycache__" not in p.parts
        ]
    return sorted(found, key=lambda p: p.as_posix())


def digest(tree: Path, roots: list[str]) -> str:
    """Hash names and contents, independent of dates, modes and the order of the file system."""
    total = hashlib.sha256()
    for path in files(tree, roots):
        content = hashlib.sha256((tree / path).read_bytes()).hexdigest()
        total.update(f"{content}  {path.as_posix()}\n".encode())
    return total.hexdigest()


def patched(text: str, hunks: str, name: str) -> str:
    """Apply the hunks of one file. Line numbers are ignored: the old text must occur exactly once instead."""
    for hunk in re.split(r"^@@.*\n", hunks, flags=re.MULTILINE)[1:]:
        lines = hunk.splitlines(keepends=True)
        old = "".join(line[1:] for line in lines if line[0] in " -")
        new = "".join(line[1:] for line in lines if line[0] in " +")
        if text.count(old) != 1:
            raise PatchError(f"{name}: the patch does not match")
        text = text.replace(old, new)
    return text


def patches(directory: Path) -> Patches:
    """Read all patches of a directory."""
    by_file: Patches = {}
    for patch in sorted(directory.glob("*.patch")):
        parts = re.split(r"^--- a/.*\n\+\+\+ b/(.*)\n", patch.read_text(), flags=re.MULTILINE)
        for target, hunks in zip(parts[1::2], parts[2::2], strict=True):
            by_file.setdefault(target, []).append((patch.name, hunks))
    return by_file


def copy(source: Path, dest: Path, roots: list[str], todo: Patches, *, strict: bool) -> None:
    """Bring `dest` to the patched content of `source`. Only what differs is written: the rest is not compiled again."""
    wanted = files(source, roots)
    for path in wanted:
        content = (source / path).read_bytes()
        for name, hunks in todo.pop(path.as_posix(), []):
            try:
                content = patched(content.decode(), hunks, f"{name}: {path}").encode()
            except PatchError as error:
                if strict:
                    raise
                print(f"{error}; built without it")
        target = dest / path
        if not target.is_file() or target.read_bytes() != content:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
    for target in todo:
        if strict:
            raise PatchError(f"{target}: the patch has no file to apply to")
        print(f"{target}: not in this checkout; its patch is left out")
    if dest.is_dir():
        for stale in set(files(dest, ["."])) - set(wanted):
            (dest / stale).unlink()


def main() -> int:
    pin = json.loads(PIN.read_text())
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    show = commands.add_parser("digest", help="print the digest of a tree")
    show.add_argument("tree", type=Path)
    unpack = commands.add_parser("unpack", help="check a tree and copy it as it is")
    prepare = commands.add_parser("prepare", help="check a tree, copy it and patch the copy")
    for command in unpack, prepare:
        command.add_argument("source", type=Path)
        command.add_argument("dest", type=Path)
    prepare.add_argument(
        "--other", action="store_true", help="not the pinned tree: no digest, and a patch may fail"
    )
    arguments = parser.parse_args()

    if arguments.command == "digest":
        print(digest(arguments.tree, pin["paths"]))
        return 0
    other = arguments.command == "prepare" and arguments.other
    if not other and (found := digest(arguments.source, pin["paths"])) != pin["digest"]:
        print(
            f"{arguments.source} is not llama.cpp b{pin['build']}: digest {found}, expected {pin['digest']}. "
            "Another tree is built, unchecked, with -C cmake.define.SHIMMY_LLAMA_CPP_DIR=PATH",
            file=sys.stderr,
        )
        return 1
    todo = patches(PIN.parent / "patches") if arguments.command == "prepare" else {}
    try:
        copy(arguments.source, arguments.dest, pin["paths"], todo, strict=not other)
    except PatchError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
