"""A model on the Hugging Face hub: config.json and the headers of its weights by HTTP range, kept by revision.

A revision is resolved to its commit first. What was read for a commit never changes, so it is kept for good: asking again
costs one small request, and none where the commit itself is named.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

from httpx2 import HTTPError
from huggingface_hub import HfApi
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    NotASafetensorsRepoError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from studio_coordinator.model_facts.directory import QUANTIZATION_FILE
from studio_coordinator.model_facts.errors import ModelUnreadableError
from studio_coordinator.model_facts.hub_gguf import chosen, read_header
from studio_coordinator.plan.memory.facts import ModelFacts
from studio_coordinator.plan.memory.model import model_facts
from studio_coordinator.plan.memory.quantization import with_quantization_file
from studio_coordinator.plan.memory.tensors import StoredTensor

_COMMIT = re.compile(r"[0-9a-f]{40}")
_OTHER_WEIGHTS = (".bin", ".pt", ".pth")


@dataclass(frozen=True)
class HubReader:
    """Reads models of one hub. `endpoint` None: the one that the environment names. The token is never written down."""

    cache_dir: Path
    endpoint: str | None = None
    token: str | None = None
    timeout_seconds: float = 10.0

    def read(self, model: str, revision: str = "main") -> ModelFacts:
        """Facts of OWNER/NAME at `revision`, or of its GGUF files OWNER/NAME:QUANTIZATION. Blocks: call it in a thread."""
        api = HfApi(endpoint=self.endpoint, token=self.token)
        model, _, variant = model.partition(":")
        try:
            commit = revision if _COMMIT.fullmatch(revision) else self._commit(api, model, revision)
            kept = self.cache_dir / model.replace("/", "--") / f"{commit}{variant and f'-{variant}'}.json"
            if not kept.is_file():
                _keep(kept, self._fetch(api, model, commit, variant))
        except (RepositoryNotFoundError, RevisionNotFoundError) as error:
            raise ModelUnreadableError(
                f"the hub has no {model} at revision {revision}, or it is not open to this token",
                "Check the name, the revision, and that the token may read it.",
            ) from error
        except (HfHubHTTPError, HTTPError, OSError) as error:
            raise ModelUnreadableError(
                f"the hub did not answer for {model}: {type(error).__name__}", "Try again, or name a local directory."
            ) from error
        content = json.loads(kept.read_bytes())
        tensors = [StoredTensor(name, kind, tuple(shape), size) for name, kind, shape, size in content["tensors"]]
        return model_facts(content["config"], tensors, content["weight_bytes"])

    def _commit(self, api: HfApi, model: str, revision: str) -> str:
        return str(api.model_info(model, revision=revision, timeout=self.timeout_seconds).sha)

    def _json(self, api: HfApi, model: str, commit: str, name: str) -> dict[str, Any]:
        """A file of the model as an object; empty where it has none of that name."""
        try:
            path = api.hf_hub_download(model, name, revision=commit, cache_dir=self.cache_dir / "files")
        except EntryNotFoundError:
            return {}
        content = json.loads(Path(path).read_bytes())
        return content if isinstance(content, dict) else {}

    def _fetch(self, api: HfApi, model: str, commit: str, variant: str) -> dict[str, Any]:
        config = self._json(api, model, commit, "config.json")
        if config and not config.get("quantization_config"):
            config = with_quantization_file(config, self._json(api, model, commit, QUANTIZATION_FILE))
        tensors: list[tuple[str, str, list[int], int]] = []
        weight_bytes = 0
        if variant:
            return self._fetch_gguf(api, model, commit, variant, config)
        try:
            metadata = api.get_safetensors_metadata(model, revision=commit, timeout=self.timeout_seconds)
            for file in metadata.files_metadata.values():
                for name, tensor in file.tensors.items():
                    begin, end = tensor.data_offsets
                    tensors.append((name, tensor.dtype, list(tensor.shape), end - begin))
        except NotASafetensorsRepoError:
            info = api.model_info(model, revision=commit, files_metadata=True, timeout=self.timeout_seconds)
            if chosen([file.rfilename for file in info.siblings or ()]):
                return self._fetch_gguf(api, model, commit, variant, config)
            weight_bytes = sum(
                file.size or 0 for file in info.siblings or () if file.rfilename.endswith(_OTHER_WEIGHTS)
            )
        return {"config": config, "tensors": tensors, "weight_bytes": weight_bytes}

    def _fetch_gguf(self, api: HfApi, model: str, commit: str, variant: str, config: dict[str, Any]) -> dict[str, Any]:
        info = api.model_info(model, revision=commit, timeout=self.timeout_seconds)
        files = chosen([file.rfilename for file in info.siblings or ()], variant)
        if not files:
            raise ModelUnreadableError(
                f"{model} has no {variant} in GGUF", "Name one of its quantizations: hf://OWNER/NAME:Q4_K_M."
            )
        stated: dict[str, Any] = {}
        tensors: list[tuple[str, str, list[int], int]] = []
        for name in files:
            metadata, listed = read_header(api.endpoint, self.token, model, commit, name, self.timeout_seconds)
            stated = metadata | stated
            tensors += [(one.name, one.element_type, list(one.shape), one.bytes) for one in listed]
        return {"config": config or stated, "tensors": tensors, "weight_bytes": 0}


def _keep(path: Path, content: dict[str, Any]) -> None:
    """Written whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with NamedTemporaryFile("w", dir=path.parent, delete=False) as file:
        json.dump(content, file)
    Path(file.name).replace(path)
