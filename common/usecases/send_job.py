"""Put an image's job on the queue, with the trace that it belongs to."""

from common.images import Image, Priority
from common.messages import Job
from common.ports import Ports
from common.tracing import span, traceparent


async def send_job(ports: Ports, image: Image, line: Priority) -> None:
    """Raises Unavailable where the broker has not confirmed it."""
    with span("publish", "producer", priority=line):
        await ports.queue.publish(Job(image_id=image.id, request_id=image.request_id, traceparent=traceparent()), line)
