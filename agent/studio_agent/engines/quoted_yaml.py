"""YAML in which every text is quoted, so that no version of YAML reads one as a number, a date or a yes."""

from collections.abc import Mapping
from typing import Any

import yaml


class _Dumper(yaml.SafeDumper):
    """Knows of texts what is added below."""


_Dumper.add_representer(str, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"'))


def quoted_yaml(content: Mapping[str, Any]) -> bytes:
    """``content`` as one document, keys in order."""
    return yaml.dump(content, Dumper=_Dumper, sort_keys=True, width=10**6).encode()
