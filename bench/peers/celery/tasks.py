"""The same job with Celery, set up as its documentation advises, and the picture processed as one writes it first.

Late acknowledgement, because a task may be done twice (docs: "Should I use retry or acks_late?"); with it a prefetch of one a
process, because tasks are long ("Prefetch limits"). The result is kept, because the client asks for its state. All else is default.
"""

import io
import os

from celery import Celery
from minio import Minio
from PIL import Image

app = Celery("images", broker=os.environ["RABBITMQ_URL"], backend=os.environ["REDIS_URL"])
app.conf.update(task_acks_late=True, worker_prefetch_multiplier=1, broker_connection_retry_on_startup=True)

store = Minio(os.environ["MINIO_ENDPOINT"], os.environ["MINIO_ACCESS_KEY"], os.environ["MINIO_SECRET_KEY"], secure=False)
RAW, PROCESSED = os.environ["RAW_BUCKET"], os.environ["PROCESSED_BUCKET"]


@app.task
def process(key: str) -> str:
    response = store.get_object(RAW, key)
    try:
        content = response.read()
    finally:
        response.close()
        response.release_conn()
    with Image.open(io.BytesIO(content)) as image:
        gray = image.convert("L")
    height = round(gray.height * 800 / gray.width)
    result = io.BytesIO()
    gray.resize((800, height), Image.Resampling.LANCZOS).save(result, "JPEG", quality=85)
    length = result.tell()
    result.seek(0)
    store.put_object(PROCESSED, key, result, length, content_type="image/jpeg")
    return key
