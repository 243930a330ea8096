"""`python -m shimmy` is `shimmy`."""

from shimmy.cli import main

if __name__ == "__main__":
    main(prog_name="shimmy")
