"""The intent of a start: on disk before the act.

An agent that dies between the two is followed by one that finds the engine. A disk that will not have the intent says nothing
about the engine: the start is neither made nor counted as failed, it waits, and says why.
"""

import asyncio
from dataclasses import replace

from studio.v1.event_pb2 import Event
from studio_runtime.failpoints import failpoint

from studio_agent.supervise.bring_up import write_note
from studio_agent.supervise.equipment import Equipment
from studio_agent.supervise.keeper import RecordKeeper

NOT_WRITTEN = "state_not_written"
WRITE_AGAIN_SECONDS = 1.0


async def write_intent(equipment: Equipment, keeper: RecordKeeper) -> bool:
    """Return once the start that the record describes is on disk; whether it had to be held until then."""
    told = False
    while (error := await _refusal(equipment, keeper)) is not None:
        reason = f"held: its start cannot be written down: {error}"
        keeper.put(replace(keeper.record, reason=reason))
        if not told:
            told = True
            keeper.say(
                "replica.start_held",
                f"{keeper.record.replica_id} is {reason}",
                severity=Event.SEVERITY_ERROR,
                reason=NOT_WRITTEN,
                hint=f"Make {equipment.settings.state.root} writable, with room on its disk; the start then goes on by itself.",
            )
        await asyncio.sleep(WRITE_AGAIN_SECONDS)
    failpoint("intent_written")
    return told


async def _refusal(equipment: Equipment, keeper: RecordKeeper) -> OSError | None:
    try:
        await asyncio.to_thread(write_note, equipment.settings.state, keeper.record)
        failpoint("note_written")
        await equipment.ledger.flush()
    except OSError as error:
        return error
    return None
