"""Where on this host a recipe may say ``path://``: whoever writes recipes shall not choose which of the host's files are read."""

from dataclasses import dataclass
from pathlib import Path

from studio_agent.models.errors import ModelOutsideError


@dataclass(frozen=True)
class ModelRoots:
    """Directories that hold models, with all that is below them. Absolute."""

    folders: tuple[Path, ...]

    def require(self, folder: Path) -> None:
        """Return where ``folder``, with its links followed, is below one of them; whether it is there is not looked at.

        Raises ModelOutsideError. Blocks: it asks the disk.
        """
        real = folder.resolve()
        if not any(real.is_relative_to(root.resolve()) for root in self.folders):
            raise ModelOutsideError(
                f"{folder} is outside the model directories of this host: {', '.join(map(str, self.folders))}",
                "Put the model into one of them, or have the host's administrator add --model-root to its agent.",
            )
