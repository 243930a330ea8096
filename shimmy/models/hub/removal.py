"""Takes models away again that were pulled, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from shimmy.errors import PullError
from shimmy.models.entry import ModelEntry
from shimmy.models.shards import paths_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Removal:
    """The files of one model, all under `root`."""

    root: Path
    files: tuple[Path, ...]
    size: int

    def run(self) -> None:
        """Remove the files, and the folders that are empty without them.

        Raises:
            PullError: the system does not let us.
        """
        try:
            for file in self.files:
                _inside(file, self.root)
                file.unlink(missing_ok=True)
            for folder in {file.parent for file in self.files}:
                _remove_empty(folder, self.root)
        except OSError as error:
            raise PullError(f"{error.filename} cannot be removed: {error.strerror}") from error


def plan_removal(entry: ModelEntry, others: list[ModelEntry], root: Path) -> Removal:
    """Return what removing `entry` means; a projector goes with the last model that uses it.

    Raises:
        PullError: the model does not lie where shimmy pulls to, or a link leads out of there.
    """
    path = Path(entry.path)
    if entry.source == "builtin":
        raise PullError(f"{entry.name} is a part of shimmy itself and goes with it")
    _inside(path, root)
    files = paths_of(path)
    kept = {other.projector for other in others if other.path != entry.path}
    if entry.projector and entry.projector not in kept and _is_inside(Path(entry.projector), root):
        files.append(Path(entry.projector))
    for file in files:
        _inside(file, root)
    return Removal(root=root, files=tuple(files), size=sum(file.lstat().st_size for file in files))


def _inside(path: Path, root: Path) -> None:
    if not _is_inside(path, root):
        raise PullError(
            f"{path} is not under {root}, where `shimmy pull` puts models, or is a link: "
            "shimmy removes nothing else; remove it yourself"
        )


def _is_inside(path: Path, root: Path) -> bool:
    """Whether a path is under `root`, with no link on the way: `..` and links lead elsewhere."""
    if ".." in path.parts or not path.is_relative_to(root) or path == root:
        return False
    steps = [path, *path.parents]
    return not any(step.is_symlink() for step in steps[: steps.index(root)])


def _remove_empty(folder: Path, root: Path) -> None:
    """Remove a folder and those above it that hold no more than our lock."""
    while folder != root and folder.is_relative_to(root):
        left = list(folder.iterdir())
        if any(item.name != ".pull.lock" for item in left):
            return
        for item in left:
            item.unlink()
        folder.rmdir()
        folder = folder.parent
