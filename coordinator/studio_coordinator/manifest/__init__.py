"""What operators write, as text, to contract messages and back.

``parse`` reads YAML or JSON and reports every problem at once, each with its document, path and line; ``dump`` writes a message
in the same friendly form; ``changed_paths`` says how two differ. Pure: text in, values out.

========= ==================================================================================
tree      YAML text to plain nodes that know their line; size, depth and aliases are bounded
units     ``24GiB``, ``10m``, ``20%``: to numbers and back
decode    nodes to a message, led by its descriptor
checks    what must hold within one recipe or deployment, and among those of one manifest
flag_classes which flags are an administrator's; environment: variables no recipe sets; addresses: URLs that point inside
parse     the three above in order
dump      a message in the form that ``parse`` reads
export    all of them as one manifest that may be applied elsewhere
upstream  recipes of the upstream vLLM Studio, with what became of each field
changes   the paths at which two messages differ
names     what a name may look like, and which known names are close to a wrong one
========= ==================================================================================
"""

from studio_coordinator.manifest.changes import changed_paths
from studio_coordinator.manifest.checks import MAX_REPLICAS
from studio_coordinator.manifest.dump import dump, to_yaml
from studio_coordinator.manifest.export import DesiredState, export
from studio_coordinator.manifest.names import close_names_hint
from studio_coordinator.manifest.parse import Parsed, parse
from studio_coordinator.manifest.upstream import Converted, convert

__all__ = [
    "MAX_REPLICAS",
    "Converted",
    "DesiredState",
    "Parsed",
    "changed_paths",
    "close_names_hint",
    "convert",
    "dump",
    "export",
    "parse",
    "to_yaml",
]
