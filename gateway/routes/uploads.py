"""Taking a picture in: one operation at three addresses."""

import asyncio
from contextlib import aclosing
from datetime import timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Request, Response

from common import processing
from common.errors import (
    BadMultipart,
    BadRequest,
    HeadersTooLarge,
    IdempotencyMismatch,
    InvalidParameter,
    InvalidProcessing,
    RateLimited,
    TooLarge,
    Unauthorized,
    Unavailable,
    UnsupportedMedia,
)
from common.formats import Format
from common.images import Image, Principal, Priority
from common.telemetry import UPLOAD_BYTES, UPLOADS, log
from common.usecases.submit_upload import Upload, submit_upload
from gateway import headers
from gateway.dependencies import Caller, Gateway, InGateway
from gateway.filenames import kept_name
from gateway.inspection import inspect
from gateway.inspection.codecs import check_writable
from gateway.multipart import IMAGE_FIELDS, Form, receive_form
from gateway.problems import documented
from gateway.schemas import IMAGES, ImageResource, address

KeyHeader = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        pattern=r"^[\x20-\x7e]+$",
        description="chosen by the client: the same upload with the same key is taken in once",
    ),
]
# What a processing looks like; common.processing says what it may be.
_PROCESSING = r"^(@[A-Za-z0-9_-]{1,64}|[a-z]+(:[0-9a-z.+]+)*([|][a-z]+(:[0-9a-z.+]+)*)*)?$"
ADDRESSES = ("/api/v1/upload", IMAGES, "/upload")
REFUSALS = (
    BadRequest,
    BadMultipart,
    Unauthorized,
    TooLarge,
    UnsupportedMedia,
    InvalidParameter,
    InvalidProcessing,
    HeadersTooLarge,
    IdempotencyMismatch,
    RateLimited,
    Unavailable,
)


def uploads_router() -> APIRouter:
    router = APIRouter(tags=["Uploads"])
    for path in ADDRESSES:
        router.add_api_route(
            path,
            upload,
            methods=["POST"],
            status_code=202,
            response_model=ImageResource,
            responses=documented(*REFUSALS) | {202: {"headers": headers.ACCEPTED}},
            openapi_extra={"requestBody": _form_documentation()},
        )
    return router


async def _idempotency_key(request: Request, key: KeyHeader = None) -> str | None:
    if len(request.headers.getlist("Idempotency-Key")) > 1:
        raise InvalidParameter("Idempotency-Key", "may be given once")
    return key


async def upload(
    caller: Caller, gateway: InGateway, request: Request, key: Annotated[str | None, Depends(_idempotency_key)]
) -> Response:
    """Send a picture. `202` is a promise: from then on it is safe, and ends as `completed` or `failed`.

    With an `Idempotency-Key` the same upload can be sent again: for 24 hours it is answered with the first one's image."""
    declared = request.headers.get("Content-Length", "")
    async with (
        gateway.intake.place(),
        aclosing(request.stream()) as body,
        receive_form(
            body,
            request.headers.get("Content-Type", ""),
            int(declared) if declared.isdecimal() else None,
            gateway.settings.max_upload_bytes,
            gateway.settings.upload_seconds,
        ) as form,
    ):
        image = await _submit(gateway, caller, form, key, request.state.request_id)
    UPLOADS.labels(image.content_type).inc()
    UPLOAD_BYTES.inc(image.size_bytes)
    log.info("upload accepted", image_id=str(image.id), content_type=image.content_type, size_bytes=image.size_bytes)
    content = ImageResource.of(image).model_dump_json(by_alias=True)
    return Response(content, 202, headers={"Location": address(image), "Cache-Control": "no-store"}, media_type="application/json")


async def _submit(gateway: Gateway, caller: Principal, form: Form, key: str | None, request_id: str) -> Image:
    settings = gateway.settings
    inspected = await asyncio.to_thread(inspect, form.path, settings.limits)
    steps = processing.resolve(form.texts.get("processing"), settings.named_processings, presets_only=settings.presets_only)
    if steps.format:
        check_writable(steps.format)
    steps.check_size(Format(inspected.content_type), (inspected.width, inspected.height), inspected.frames, settings.limits)
    return await submit_upload(
        gateway.ports,
        caller,
        Upload(
            path=form.path,
            filename=kept_name(form.filename, inspected.content_type),
            content_type=inspected.content_type,
            size_bytes=form.size_bytes,
            sha256=form.sha256,
            width=inspected.width,
            height=inspected.height,
            processing=steps,
            priority=_priority(form.texts.get("priority", Priority.NORMAL)),
            request_id=request_id,
            idempotency_key=key,
        ),
        timedelta(seconds=settings.stale_seconds),
    )


def _priority(text: str) -> Priority:
    try:
        return Priority(text)
    except ValueError:
        raise InvalidParameter("priority", f"must be one of {', '.join(Priority)}") from None


def _form_documentation() -> dict[str, Any]:
    """Of the field's names only the usual one, so that documentation pages show a form that can be filled in."""
    picture = {"type": "string", "contentMediaType": "application/octet-stream", "format": "binary"}
    fields = {
        "image": {**picture, "description": f"The picture. Other names for the field: {', '.join(IMAGE_FIELDS[1:])}."},
        "processing": {
            "type": "string",
            "default": processing.DEFAULT,
            "maxLength": processing.MAX_TEXT,
            "pattern": _PROCESSING,
            "description": "Steps, one after the other, or a preset. What can be done depends on the picture.",
        },
        "priority": {"type": "string", "enum": list(Priority), "default": Priority.NORMAL},
    }
    schema = {"type": "object", "properties": fields, "required": ["image"], "additionalProperties": False}
    kinds = ", ".join(kind.value for kind in Format if kind is not Format.AVIF)
    return {
        "required": True,
        "content": {"multipart/form-data": {"schema": schema, "encoding": {"image": {"contentType": kinds}}}},
    }
