"""For every lane."""

from hypothesis import settings

# A loaded machine is no defect: how long an example takes is never judged.
settings.register_profile("studio", deadline=None, print_blob=True)
settings.load_profile("studio")
