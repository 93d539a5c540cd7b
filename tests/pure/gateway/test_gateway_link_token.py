"""A gateway whose token cannot be read goes on, without one."""

from pathlib import Path

from studio_gateway.link import Link
from studio_runtime.bearer import Bearer
from studio_runtime.settings import Address


def test_a_token_that_is_gone_is_no_error(tmp_path: Path) -> None:
    file = tmp_path / "token"
    link = Link([Address("127.0.0.1", 1)], bearer=Bearer(file))
    assert link.metadata() == ()
    file.write_text("vsl_x")
    assert link.metadata() == (("authorization", "Bearer vsl_x"),)
