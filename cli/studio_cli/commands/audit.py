"""``studio audit``: what was changed by whom, and whether the log is as it was written."""

import json
from pathlib import Path
from typing import Annotated

import typer
from google.protobuf.json_format import MessageToJson, ParseDict, ParseError
from studio.v1.access_service_pb2 import AnchorAuditRequest, AuditAnchor, ListAuditRequest, VerifyAuditRequest
from studio_runtime.errors import InvalidError, StudioError

from studio_cli.command import OutputOption, command, noun
from studio_cli.coordinator import Coordinator
from studio_cli.output import Answer, Format, show_list, write_item
from studio_cli.report import Report
from studio_cli.views.access import audit_table

AnchorsOption = Annotated[
    Path | None, typer.Option("--anchors", metavar="FILE", help="Heads that `studio audit anchor` wrote, one a line.")
]


class AuditError(StudioError):
    """The audit log is not as it was written."""

    reason = "audit"


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    audit = noun(app, "audit", "What was changed, by whom.")
    command(
        audit,
        list_audit,
        "studio audit",
        "studio audit list --actor ann --limit 20 -o json",
        "studio audit list --object Recipe/chat",
        name="list",
    )
    command(audit, verify, "studio audit verify", "studio audit verify --anchors /mnt/worm/anchors.jsonl")
    command(audit, anchor, "studio audit anchor >> /mnt/worm/anchors.jsonl")


async def list_audit(
    coordinator: Coordinator,
    *,
    limit: Annotated[int, typer.Option(min=1, help="How many at most.")] = 100,
    after: Annotated[
        int, typer.Option(metavar="SEQUENCE", help="Those that follow this one. Default: the newest.")
    ] = 0,
    actor: Annotated[str, typer.Option(help="Only what this operator did.")] = "",
    object_name: Annotated[str, typer.Option("--object", metavar="KIND/NAME", help="Only what was done to this.")] = "",
    output: OutputOption = Format.TABLE,
) -> None:
    """List entries of the audit log, the newest last."""

    async def fetch() -> Answer:
        request = ListAuditRequest(limit=limit, after_sequence=after, actor=actor, object=object_name)
        answer = await coordinator.call(coordinator.access.ListAudit, request, "read the audit log")
        return Answer(list(answer.entries), audit_table(answer.entries))

    await show_list(fetch, output)


async def verify(coordinator: Coordinator, anchors: AnchorsOption = None, output: OutputOption = Format.TABLE) -> None:
    """Check that no entry was edited, removed, moved or made up.

    Only anchors that were kept elsewhere can tell that the log's end was cut off, or all of it written anew. Exits with 1 where
    anything is wrong.
    """
    request = VerifyAuditRequest(anchors=[] if anchors is None else read_anchors(anchors))
    answer = await coordinator.call(coordinator.access.VerifyAudit, request, "verify the audit log")
    told = f"{answer.entries} entries are as they were written"
    write_item(answer, lambda: [told] if answer.ok else list(answer.findings), output)
    if not answer.ok:
        raise AuditError(
            f"the audit log was changed: {len(answer.findings)} findings in {answer.entries} entries",
            "Keep the database as it is; compare with a backup and with older anchors.",
        )


async def anchor(coordinator: Coordinator) -> None:
    """Write the log's head as a line of JSON, to be kept where the coordinator's database cannot be changed from."""
    answer = await coordinator.call(coordinator.access.AnchorAudit, AnchorAuditRequest(), "anchor the audit log")
    typer.echo(MessageToJson(answer.anchor, indent=None, preserving_proto_field_name=True))
    Report.on_standard_error().line(f"the log has {answer.anchor.sequence} entries")


def read_anchors(file: Path) -> list[AuditAnchor]:
    """The anchors in ``file``, one a line. Raises InvalidError."""
    try:
        lines = [line for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
        return [ParseDict(json.loads(line), AuditAnchor()) for line in lines]
    except (OSError, ValueError, ParseError) as error:
        raise InvalidError(
            f"{file} cannot be read as anchors: {error}", "Each line is what `studio audit anchor` wrote."
        ) from None
