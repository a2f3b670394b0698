"""How seldom may Python look for garbage?

A process of ours holds a hundred thousand objects that stay, and makes thousands that die young with every batch. By
default the collector walks all of the former again and again: a fifth of an ingress's CPU and pauses of a tenth of a
second, measured. What exists once everything is open is set aside, and the rest is looked at a tenth as often.
"""

import gc

# Objects made and not freed before a young collection, and how many of those before an older one.
THRESHOLDS = (20_000, 20, 50)


def collect_seldom() -> None:
    """Call it once, when the process has opened what it keeps."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
