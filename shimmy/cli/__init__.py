"""The `shimmy` command. Bodies are thin: flags in, a call into a lower layer, text out."""

from shimmy.cli.group import main as main
