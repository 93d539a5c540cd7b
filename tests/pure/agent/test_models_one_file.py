"""A model that is a single file."""

from pathlib import Path

import pytest
from studio_agent.models.errors import ModelMissingError
from studio_agent.models.source import check_local


def test_a_gguf_file_is_a_whole_model(tmp_path: Path):
    model = tmp_path / "m.gguf"
    model.write_bytes(b"GGUF")
    check_local(model)


@pytest.mark.parametrize("name", ["missing.gguf", "weights.safetensors"])
def test_another_file_is_none(tmp_path: Path, name: str):
    (tmp_path / "weights.safetensors").write_bytes(b"x")
    with pytest.raises(ModelMissingError):
        check_local(tmp_path / name)
