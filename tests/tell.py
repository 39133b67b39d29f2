"""What a long test has tried and lost, as it goes on."""

import sys


def tell(line: str) -> None:
    """Print a line at once, where `pytest -s` lets it through."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
