"""What a key does to what is shown."""

from dataclasses import dataclass, replace
from typing import TypeVar

from studio_cli.top.pages import Order, Page

Choice = TypeVar("Choice")

PAGE_KEYS = dict(zip("1234", Page, strict=True))
# As terminals send them.
UP, DOWN, PAGE_UP, PAGE_DOWN = "\x1b[A", "\x1b[B", "\x1b[5~", "\x1b[6~"
STEPS = {"k": -1, "j": 1, UP: -1, DOWN: 1, PAGE_UP: -20, PAGE_DOWN: 20}
HELP = "1 hosts  2 GPUs  3 replicas  4 models   s sort   arrows scroll   q quit"


@dataclass(frozen=True)
class View:
    """What is shown: a page, its order, and the first of its rows."""

    page: Page = Page.HOSTS
    order: Order = Order.NAME
    first: int = 0
    done: bool = False

    def pressed(self, key: str) -> "View":
        """The view after a key; one that means nothing changes nothing."""
        if key in PAGE_KEYS:
            return replace(self, page=PAGE_KEYS[key], first=0)
        if key == "\t":
            return replace(self, page=_next(list(Page), self.page), first=0)
        if key == "s":
            return replace(self, order=_next(list(Order), self.order), first=0)
        if key in STEPS:
            return replace(self, first=max(0, self.first + STEPS[key]))
        return replace(self, done=True) if key in ("q", "Q") else self

    def within(self, rows: int, room: int) -> "View":
        """The same, scrolled no farther than to the last of ``rows``."""
        return replace(self, first=min(self.first, max(0, rows - room)))


def _next(choices: list[Choice], now: Choice) -> Choice:
    return choices[(choices.index(now) + 1) % len(choices)]
