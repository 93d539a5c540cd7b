"""AccessService: the audit log, read, verified and anchored."""

from typing import Any

import grpc
from studio.v1.access_service_pb2 import (
    AnchorAuditRequest,
    AnchorAuditResponse,
    ListAuditRequest,
    ListAuditResponse,
    VerifyAuditRequest,
    VerifyAuditResponse,
)
from studio_runtime.errors import InvalidError

from studio_coordinator.audit.chain import Verification
from studio_coordinator.rpc.guard import guarded
from studio_coordinator.rpc.state import AdminState
from studio_coordinator.store import audit

Context = grpc.aio.ServicerContext[Any, Any]

DEFAULT_ENTRIES = 100
# An entry may have twice 64 KiB; an answer has 4 MiB.
MOST_ENTRIES = 500
MOST_BYTES = 3 * 1024 * 1024
MOST_ANCHORS = 1000


class Audit(AdminState):
    """What was done, by whom, and whether the log is as it was written."""

    @guarded
    async def ListAudit(self, request: ListAuditRequest, _context: Context) -> ListAuditResponse:  # noqa: N802
        """The newest entries, or those after a sequence, in their order; as many as fit into one answer."""
        limit = min(request.limit or DEFAULT_ENTRIES, MOST_ENTRIES)
        async with self.database.transaction() as conn:
            found = await audit.list_entries(conn, limit, request.after_sequence, request.actor, request.object)
        response = ListAuditResponse()
        room = MOST_BYTES
        # What is left out is at the end that is asked for next.
        for entry in found if request.after_sequence else reversed(found):
            room -= entry.ByteSize()
            if room < 0:
                break
            response.entries.append(entry)
        response.entries.sort(key=lambda entry: entry.sequence)
        return response

    @guarded
    async def VerifyAudit(self, request: VerifyAuditRequest, _context: Context) -> VerifyAuditResponse:  # noqa: N802
        """Every entry's hash, the order, and the end; what is wrong is named."""
        if len(request.anchors) > MOST_ANCHORS:
            raise InvalidError(f"{len(request.anchors)} anchors in one call, at most {MOST_ANCHORS}")
        verification = Verification(request.anchors)
        async with self.database.transaction() as conn:
            await audit.freeze(conn)
            head = await audit.head(conn)
            async for entry in audit.every_entry(conn):
                verification.take(entry)
        findings = verification.finish(head)
        return VerifyAuditResponse(
            ok=not findings, entries=verification.entries, findings=findings, head=verification.last
        )

    @guarded
    async def AnchorAudit(self, _request: AnchorAuditRequest, _context: Context) -> AnchorAuditResponse:  # noqa: N802
        """The head, to be kept where nobody who can write to the database can write."""
        async with self.database.transaction() as conn:
            anchor = await audit.head(conn)
        anchor.at.GetCurrentTime()
        return AnchorAuditResponse(anchor=anchor)
