"""Recipes of the upstream vLLM Studio, as JSON, in our words; and for each of their fields what became of it.

``convert`` is the way in. Nothing is guessed in silence: a field is mapped, renamed, obsolete, kept with another meaning, or
refused, and the report says which, and why. What is converted can be applied.

======== ==============================================================================================
reading  JSON text to plain recipes, bounded
draft    one recipe under way, with its report
fields   upstream's first-class fields
extra    its `extra_args`: typed where we have a word, else flags of the engine
flags    which of those flags have a word here, which are gone, and which are not a recipe's to say
assemble drafts to a manifest: recipes, and stopped deployments for the names that they served
======== ==============================================================================================
"""

from studio_coordinator.manifest.upstream.assemble import Converted, convert

__all__ = ["Converted", "convert"]
