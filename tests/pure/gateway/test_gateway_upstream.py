"""What becomes of a connection to an engine between two answers."""

import asyncio
from typing import Any

import pytest
from studio_gateway import upstream
from studio_gateway.deadlines import Deadlines
from studio_gateway.http1 import AnswerHead
from studio_gateway.upstream import Asker, EngineConnection, Pool, address_of

pytestmark = pytest.mark.skipif(
    not upstream.__file__.endswith(".py"), reason="a compiled base class has compiled heirs only"
)


class Wire(asyncio.Transport):
    """The lowest end: bytes go nowhere, reading is on or off."""

    def __init__(self) -> None:
        super().__init__()
        self.reads, self.is_closed = True, False

    def write(self, data: Any) -> None:
        """Nobody looks at it."""

    def pause_reading(self) -> None:
        self.reads = False

    def resume_reading(self) -> None:
        self.reads = True

    def is_closing(self) -> bool:
        return self.is_closed

    def abort(self) -> None:
        self.is_closed = True

    def get_write_buffer_size(self) -> int:
        return 0


class SlowReader(Asker):
    """Its client falls behind with every part."""

    def __init__(self, connection: EngineConnection) -> None:
        self.connection = connection
        self.end = ""

    def answer_begins(self, head: AnswerHead) -> None: ...

    def take_part(self, data: bytes) -> None:
        del data
        self.connection.pause()

    def read_is_over(self) -> None: ...

    def answer_ends(self) -> None:
        self.end = "whole"

    def answer_breaks(self, reason: str, *, has_begun: bool) -> None:
        del reason, has_begun
        self.end = "broken"


def asked(pool: Pool, wire: Wire) -> tuple[EngineConnection, SlowReader]:
    connection = EngineConnection(pool, address_of("http://127.0.0.1:1"))
    connection.connection_made(wire)
    asker = SlowReader(connection)
    connection.ask(asker, "POST", b"", b"")
    return connection, asker


async def test_a_connection_whose_client_fell_behind_is_heard_again_by_the_next():
    with Deadlines() as deadlines, Pool(deadlines) as pool:
        connection, asker = asked(pool, wire := Wire())
        connection.data_received(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
        assert asker.end == "whole"
        assert pool.take(connection.address) is connection
        assert wire.reads


@pytest.mark.parametrize(("cause", "end"), [(None, "whole"), (ConnectionResetError(), "broken")])
async def test_an_answer_that_the_connections_end_ends_is_whole_only_where_it_ended_well(
    cause: Exception | None, end: str
):
    with Deadlines() as deadlines, Pool(deadlines) as pool:
        connection, asker = asked(pool, Wire())
        connection.data_received(b"HTTP/1.1 200 OK\r\n\r\nhalf of")
        connection.connection_lost(cause)
        assert asker.end == end
