"""The last quarter of an hour of one host, by the second, and the rollups that fall out as time goes on."""

from collections.abc import Callable, Iterator

from studio.v1.agent_service_pb2 import ReportTelemetryRequest

from studio_coordinator.telemetry.block import ROWS, Block, ClosedBlock, OpenBlock
from studio_coordinator.telemetry.layout import Layout
from studio_coordinator.telemetry.rollup import COARSE_SECONDS, FINE_SECONDS, Rollup, rollup

KEPT_SECONDS = 900
KEPT_BLOCKS = KEPT_SECONDS // ROWS


class Ring:
    """Blocks of one host. ``emit`` takes the rollup of each step that is over."""

    def __init__(self, host_id: str, emit: Callable[[Rollup], None]) -> None:
        self._host_id = host_id
        self._emit = emit
        # A change of the host's GPUs or replicas closes a block early: a minute may then have several.
        # A list: it is short, and a deque takes half a kilobyte for each host.
        self._closed: list[ClosedBlock] = []
        self._open: OpenBlock | None = None
        # End of the fine step that is being filled.
        self._step_end = 0

    def put(self, second: int, figures: ReportTelemetryRequest) -> None:
        """Write what was reported in ``second`` (of the coordinator's clock). A clock that was set back is waited for."""
        block = self._open
        if block is None or second >= self._step_end:
            self.advance(second)
            block = self._open
        elif second < block.start:
            return
        row = block.layout.row(figures) if block is not None else None
        if block is None or row is None:
            if block is not None:
                self._close()
            layout = Layout.of(self._host_id, figures)
            block = self._open = OpenBlock(layout, second - second % ROWS)
            self._step_end = second - second % FINE_SECONDS + FINE_SECONDS
            row = layout.row(figures)
            if row is None:
                raise AssertionError("a layout has the row of what it was made of")
        block.put(second, row)

    def advance(self, second: int) -> None:
        """Let time go on to ``second``: steps and minutes that are over are rolled up, and what is too old goes."""
        block = self._open
        if block is not None and second >= self._step_end:
            first = self._step_end - FINE_SECONDS - block.start
            self._roll(block, FINE_SECONDS, first, first + FINE_SECONDS)
            self._step_end = second - second % FINE_SECONDS + FINE_SECONDS
            if second >= block.start + ROWS:
                self._close(rolled=True)
                self._open = OpenBlock(block.layout, second - second % ROWS)
        while self._closed and self._closed[0].start < second - KEPT_SECONDS - ROWS:
            del self._closed[0]

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to keep any more."""
        return not self._closed and self._open is None

    @property
    def size_bytes(self) -> int:
        """Memory that the values take."""
        opened = ROWS * self._open.layout.row_bytes if self._open is not None else 0
        return opened + sum(block.size_bytes for block in self._closed)

    def blocks(self) -> Iterator[Block]:
        """All there is, oldest first."""
        yield from self._closed
        if self._open is not None:
            yield self._open

    def suspend(self) -> None:
        """The host is gone: what is open is closed, to be kept until it is too old."""
        if self._open is not None:
            self._close()

    def _close(self, *, rolled: bool = False) -> None:
        block = self._open
        if block is None:
            return
        if not rolled:
            first = self._step_end - FINE_SECONDS - block.start
            self._roll(block, FINE_SECONDS, first, first + FINE_SECONDS)
        self._roll(block, COARSE_SECONDS, 0, ROWS)
        self._closed.append(block.close())
        self._open = None

    def _roll(self, block: OpenBlock, step: int, first: int, end: int) -> None:
        done = rollup(block.layout, step, block.start + first, block.rows(first, end))
        if done is not None:
            self._emit(done)
