"""Names of many hosts in few words: gpu-01..03, gpu-07."""

from collections.abc import Iterable, Sequence

SHOWN = 4


def ranges(names: Iterable[str]) -> str:
    """Host names, consecutive numbers as a range; what is too much is counted."""
    runs: list[list[str]] = []
    for name in sorted(names, key=_natural):
        if runs and _follows(runs[-1][-1], name):
            runs[-1].append(name)
        else:
            runs.append([name])
    shown, hidden = runs[:SHOWN], runs[SHOWN:]
    told = ", ".join(_told(run) for run in shown)
    return told + (f" and {sum(map(len, hidden))} more" if hidden else "")


def listed(names: Sequence[str], shown: int = 2) -> str:
    """A few names, and how many more there are."""
    if len(names) <= shown + 1:
        return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
    return f"{', '.join(names[:shown])} and {len(names) - shown} more"


def counted(number: int, word: str) -> str:
    """The number and its word: 1 GPU, 2 GPUs."""
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def _split(name: str) -> tuple[str, str]:
    stem = name.rstrip("0123456789")
    return stem, name[len(stem) :]


def _natural(name: str) -> tuple[str, int, str]:
    stem, digits = _split(name)
    return stem, int(digits or -1), digits


def _follows(before: str, after: str) -> bool:
    (stem, digits), (next_stem, next_digits) = _split(before), _split(after)
    if stem != next_stem or not digits or not next_digits or int(next_digits) != int(digits) + 1:
        return False
    # 9 and 10 follow each other, and so do 09 and 10; 9 and 010 do not.
    return len(digits) == len(next_digits) or not next_digits.startswith("0")


def _told(run: Sequence[str]) -> str:
    return run[0] if len(run) == 1 else f"{run[0]}..{_split(run[-1])[1]}"
