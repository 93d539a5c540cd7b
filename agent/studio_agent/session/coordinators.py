"""Which coordinator to dial: the one that leads, where one of them says who does; else one after the other."""

from collections.abc import Sequence

from studio_runtime.settings import Address


class Coordinators:
    """The addresses that the agent was given, and the one to dial now."""

    def __init__(self, addresses: Sequence[Address]) -> None:
        if not addresses:
            raise ValueError("an agent needs the address of at least one coordinator")
        self._addresses = tuple(addresses)
        self._turn = 0
        # Turned away or gone since the last session, without a word of who leads.
        self._misses = 0

    @property
    def current(self) -> Address:
        """The one to dial."""
        return self._addresses[self._turn]

    def served(self) -> None:
        """The present one leads: it opened a session."""
        self._misses = 0

    def failed(self, leader: str = "") -> bool:
        """Go on to the next one, or to ``leader`` where that is one of ours; whether it is worth dialling at once.

        It is for each address once, and where a leader was named: a list of coordinators costs no wait while one of them leads.
        A leader that nobody gave this agent is not dialled: an address that came over the network is no address to trust.
        """
        self._misses += 1
        named = [number for number, address in enumerate(self._addresses) if str(address) == leader]
        elsewhere = bool(named) and named[0] != self._turn
        self._turn = named[0] if elsewhere else (self._turn + 1) % len(self._addresses)
        # Two that name each other must not be dialled in a circle without a pause.
        return self._misses < len(self._addresses) + elsewhere and len(self._addresses) > 1
