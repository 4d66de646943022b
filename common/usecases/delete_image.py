"""Delete an image in whatever state it is: nobody finds it from then on, and what is left of it is removed, whatever crashes.

The row is marked first: readers and workers find nothing from that moment, and it stays due, so that the dispatcher finishes what
could not be removed at once. A worker that is rendering the image stores a result, finds no row to name it, and removes it.
"""

from datetime import timedelta
from uuid import UUID

from common.errors import ImageNotFound
from common.images import Image, Principal
from common.ports import Bucket, Ports
from common.telemetry import DELETED, log
from common.usecases.announce import announce

# What could not be removed is tried again after this time.
GRACE = timedelta(seconds=10)


async def delete_image(ports: Ports, principal: Principal, image_id: UUID) -> None:
    """Raises ImageNotFound, as for readers. Raises Unavailable where the object store or the database is away; asking again is
    harmless, and not needed where the image is not found any more."""
    image = await ports.images.mark_deleted(image_id, None if principal.is_admin else principal.subject, GRACE)
    if image is None:
        raise ImageNotFound("There is no image with this id.")
    log.info("image deleted", image_id=str(image.id), status=image.status)
    await finish_deletion(ports, image)


async def finish_deletion(ports: Ports, image: Image) -> None:
    """Removes everything, the row last: until then it is due, and this is tried again. Raises Unavailable."""
    is_forgotten = await announce(ports, image)
    for key in image.result_keys:
        await ports.blobs.delete(Bucket.PROCESSED, key)
    await ports.blobs.delete(Bucket.RAW, image.raw_key)
    # Where the cache is away its copy would outlive the row.
    if is_forgotten:
        await ports.images.remove(image.id)
        DELETED.inc()
