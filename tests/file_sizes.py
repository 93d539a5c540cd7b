"""Report the sizes of the project's own Python files; say which ask for a split. Part of ``make check``."""

import statistics
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("runtime", "agent", "coordinator", "gateway", "cli", "tests", "bench")
LONGEST = 400


def main() -> None:
    """Print the figures; exit 1 when a file of the product is too long."""
    sizes = {
        path.relative_to(ROOT): sum(1 for _ in path.open(encoding="utf-8"))
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("*.py")
    }
    ordered = sorted(sizes.values())
    print(  # noqa: T201 - a report
        f"{len(ordered)} Python files, {sum(ordered)} lines: median {statistics.median(ordered):.0f}, "
        f"90 % below {ordered[int(len(ordered) * 0.9)]}, longest {ordered[-1]}"
    )
    long = {path: size for path, size in sizes.items() if size > LONGEST}
    if long:
        sys.exit("these ask for a split by concept: " + ", ".join(f"{path} ({size})" for path, size in long.items()))


if __name__ == "__main__":
    main()
