"""GGUF files of a hub: which of a repository's quantizations is meant, and its header by HTTP range."""

import io
import re
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

from huggingface_hub import get_session, hf_hub_url
from huggingface_hub.utils import build_hf_headers, hf_raise_for_status  # type: ignore[attr-defined] # public, not in __all__

from studio_coordinator.model_facts.errors import ModelUnreadableError
from studio_coordinator.model_facts.gguf_header import parse_gguf
from studio_coordinator.plan.memory.tensors import StoredTensor

# What agents take of several quantizations when none is named, in this order.
USUAL_VARIANTS = ("Q4_K_M", "Q8_0")
SHARD = re.compile(r"-\d{5}-of-\d{5}$")
# A header holds the whole vocabulary: some megabytes.
FIRST_BYTES = 2 * 2**20
MOST_BYTES = 128 * 2**20


def chosen(names: Sequence[str], variant: str = "") -> list[str]:
    """The files of one quantization among ``names``; empty where there is none. A host fetches the same."""
    paths = [path for name in names if (path := PurePosixPath(name)).suffix == ".gguf"]
    paths = sorted(path for path in paths if not path.name.startswith("mmproj"))
    for wanted in (variant,) if variant else USUAL_VARIANTS:
        named = re.compile(rf"(^|[-._/]){re.escape(wanted)}($|[-._/])", re.IGNORECASE)
        if found := [str(path) for path in paths if named.search(str(path.with_suffix("")))]:
            return found
    if variant or not paths:
        return []
    first = SHARD.sub("", paths[0].stem)
    return [str(path) for path in paths if SHARD.sub("", path.stem) == first]


def read_header(
    endpoint: str, token: str | None, model: str, commit: str, name: str, timeout_seconds: float
) -> tuple[dict[str, Any], tuple[StoredTensor, ...]]:
    """Metadata and tensors of one file; asks for more of it as long as its header goes on."""
    url = hf_hub_url(model, name, revision=commit, endpoint=endpoint)
    size = FIRST_BYTES
    while True:
        headers = {**build_hf_headers(token=token), "Range": f"bytes=0-{size - 1}"}
        response = get_session().get(url, headers=headers, timeout=timeout_seconds, follow_redirects=True)
        hf_raise_for_status(response)
        try:
            return parse_gguf(io.BytesIO(response.content), name)
        except ModelUnreadableError:
            # What is not whole cannot be told from what is damaged: only the end of the file decides.
            if len(response.content) < size or size >= MOST_BYTES:
                raise
            size *= 4
