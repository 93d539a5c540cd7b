"""How soon a role that died is started again: at once, then ever more slowly, as a service manager would."""

from dataclasses import dataclass

FIRST_DELAY_SECONDS = 0.2
LONGEST_DELAY_SECONDS = 5.0
# A role that ran for so long was well: what follows is a new story.
SETTLED_SECONDS = 30.0
# During start-up, so many quick deaths in a row are taken for an answer.
HOPELESS_DEATHS = 3


@dataclass(frozen=True)
class Pace:
    """Quick deaths in a row so far."""

    deaths: int = 0

    def after_death(self, ran_seconds: float) -> "Pace":
        """The pace after one more death of a process that ran for ``ran_seconds``."""
        return Pace(1 if ran_seconds >= SETTLED_SECONDS else self.deaths + 1)

    @property
    def delay_seconds(self) -> float:
        """How long to wait before the next start."""
        doublings = min(max(0, self.deaths - 1), 16)
        return min(LONGEST_DELAY_SECONDS, FIRST_DELAY_SECONDS * 2.0**doublings)

    @property
    def hopeless(self) -> bool:
        """Whether it died too often for a system that is only starting."""
        return self.deaths >= HOPELESS_DEATHS
