"""How long the status caches keep what they know, in seconds. The same for every cache, so that readers see the same."""

from common.images import Image

# Nothing changes any more; kept for as long as somebody is likely to ask.
FINAL_SECONDS = 600
# Where an invalidation was lost while the cache was away, a process that has not noticed shows an old state for this long at most.
CHANGING_SECONDS = 5
# So that a late invalidation by an older version, or a late reader of one, is known for what it is.
INVALIDATED_SECONDS = 60
# A reader that takes longer from the cache to the row and back does not put what it has read.
PERMITTED_SECONDS = 10


def lifetime_seconds(image: Image) -> int:
    return FINAL_SECONDS if image.status.is_final else CHANGING_SECONDS
