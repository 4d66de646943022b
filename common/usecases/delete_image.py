"""Delete an image in whatever state it is: nobody finds it from then on, and what is left of it is removed, whatever crashes.

The row is marked first: readers and workers find nothing from that moment, and it stays due until all else is gone, so that
`finish_due_deletions`, which every worker loops over, does what could not be done at once. A worker that is rendering the image
stores a result, finds no row to name it, and removes it.

Does not promise that
- the cache shows nothing before it is told: next, or by the loop, where this process ends or the cache is away at that moment;
- no object is left where a worker is killed, or cut off from the object store, right after it stored the result of an image that
  had been removed meanwhile: nobody knows of that object, and the sweeper takes it.
"""

import asyncio
from datetime import timedelta
from uuid import UUID

from common.errors import ImageNotFound, Unavailable
from common.images import Image, Principal
from common.ports import Bucket, Ports
from common.telemetry import DELETED, about, log
from common.usecases.announce import announce

# What could not be removed is tried again after this time.
GRACE = timedelta(seconds=10)
# So many at once. An object store that hangs costs the loop one time limit for all of them.
BATCH = 10


async def delete_image(ports: Ports, principal: Principal, image_id: UUID) -> None:
    """Raises ImageNotFound, as for readers. Raises Unavailable where the database is away, or the object store: then the image is
    not found any more, and its objects will be removed without anybody asking again."""
    image = await ports.images.mark_deleted(image_id, None if principal.is_admin else principal.subject, GRACE)
    if image is None:
        raise ImageNotFound("There is no image with this id.")
    log.info("image deleted", image_id=str(image.id), status=image.status)
    await _finish(ports, image)


async def finish_due_deletions(ports: Ports) -> None:
    """One round of the loop. What fails is due again soon, behind what else is due; so it ends the round, and holds up nobody."""
    while True:
        try:
            due = await ports.images.take_due(BATCH, GRACE, deleted=True)
        except Unavailable as error:
            log.warning("deletions put off", service=error.service, reason=error.reason)
            return
        async with asyncio.TaskGroup() as group:
            finishing = [group.create_task(_finish_later(ports, image)) for image in due]
        if len(due) < BATCH or not all(task.result() for task in finishing):
            return


async def _finish_later(ports: Ports, image: Image) -> bool:
    with about(image):
        try:
            return await _finish(ports, image)
        except Unavailable as error:
            log.warning("deletion put off", service=error.service, reason=error.reason)
            return False


async def _finish(ports: Ports, image: Image) -> bool:
    """Removes everything, the row last: until then it is due. → whether that is gone, too. Raises Unavailable."""
    is_forgotten = await announce(ports, image) is not None
    for key in image.result_keys:
        await ports.blobs.delete(Bucket.PROCESSED, key)
    await ports.blobs.delete(Bucket.RAW, image.raw_key)
    # Where the cache is away its copy would outlive the row.
    if is_forgotten:
        await ports.images.remove(image.id)
        DELETED.inc()
    return is_forgotten
