"""`python -m flyweight` is the command `flyweight`."""

from __future__ import annotations

from flyweight.cli.main import main

if __name__ == "__main__":
    main()
