"""One command per module; each has a `command` that the group loads by name."""
