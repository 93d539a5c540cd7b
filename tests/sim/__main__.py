"""``python -m sim --seeds N [--first SEED]``, in ``tests/``: as many stories as you have time for."""

import argparse
import sys

from sim.promises import BrokenPromiseError
from sim.story import tell


def main() -> int:
    parser = argparse.ArgumentParser(prog="sim", description=__doc__)
    parser.add_argument("--seeds", type=int, default=5000)
    parser.add_argument("--first", type=int, default=0)
    arguments = parser.parse_args()
    broken = 0
    for seed in range(arguments.first, arguments.first + arguments.seeds):
        try:
            tell(seed)
        except BrokenPromiseError as error:
            broken += 1
            sys.stdout.write(f"{error}\n\n")
    sys.stdout.write(f"{arguments.seeds} stories from seed {arguments.first}: {broken} broke a promise\n")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
