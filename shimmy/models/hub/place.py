"""Where pulled models lie."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from shimmy.models.stores.places import Machine, data_folder


def pull_root() -> Path:
    """Return the folder that `shimmy pull` writes to, which discovery searches by itself."""
    machine = Machine(
        platform=sys.platform, environ=os.environ, home=str(Path.home()), cwd=str(Path.cwd())
    )
    return Path(data_folder(machine)) / "models"
