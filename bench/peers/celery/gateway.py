"""Takes uploads for the Celery workers: no tokens, no checks, no rows."""

from uuid import uuid4

from celery.result import AsyncResult
from fastapi import FastAPI, UploadFile
from tasks import RAW, app, process, store

api = FastAPI()


@api.get("/health")
def health() -> dict[str, str]:
    return {"status": "ok"}


@api.post("/upload", status_code=202)
def upload(image: UploadFile) -> dict[str, str]:
    key = str(uuid4())
    store.put_object(RAW, key, image.file, image.size or 0, content_type=image.content_type or "application/octet-stream")
    process.apply_async((key,), task_id=key)
    return {"id": key}


@api.get("/images/{key}")
def state(key: str) -> dict[str, str]:
    return {"id": key, "status": AsyncResult(key, app=app).status}
