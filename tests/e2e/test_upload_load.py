"""Two hundred slow, huge uploads at once: the gateway stays small, sheds what is too much, and goes on serving."""

import asyncio
from pathlib import Path

from tests.e2e.stack import Stack
from tests.pictures import photo_jpeg
from tests.polling import eventually

CLIENTS = 200
PLACES = 100  # MAX_CONCURRENT_UPLOADS' default
PIECE = bytes(1 << 20)
LENGTH = 10 << 20
MAY_GROW_BYTES = 150 << 20
HEAD = b'--b\r\nContent-Disposition: form-data; name="image"; filename="slow.jpg"\r\n\r\n\xff\xd8\xff'  # the beginning of a JPEG


def _resident_bytes(pid: int) -> int:
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) * 1024


async def _begin(stack: Stack, token: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Sends a megabyte of ten, and then nothing more for now."""
    reader, writer = await asyncio.open_connection("localhost", stack.port)
    head = f"POST /api/v1/upload HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Length: {LENGTH}\r\n"
    writer.write(head.encode() + b"Content-Type: multipart/form-data; boundary=b\r\n\r\n" + HEAD + PIECE)
    return reader, writer


async def test_two_hundred_slow_uploads_at_once(own_stack: Stack) -> None:
    # given
    stack, user = own_stack, own_stack.as_user()
    token = user["Authorization"].removeprefix("Bearer ")
    assert stack.gateway is not None
    done = stack.upload(user, photo_jpeg(64, 48)).json()["id"]
    before = _resident_bytes(stack.gateway.pid)

    # when
    clients = [await _begin(stack, token) for _ in range(CLIENTS)]
    answered: dict[int, bytes] = {}

    async def listen(number: int, reader: asyncio.StreamReader) -> None:
        answered[number] = await reader.readuntil(b"\r\n\r\n")

    listening = [asyncio.create_task(listen(number, reader)) for number, (reader, _) in enumerate(clients)]
    try:
        # then one half is told to come back, and the other is waited for
        async def too_many_are_refused() -> bool:
            return len(answered) == CLIENTS - PLACES

        await eventually(too_many_are_refused, f"{CLIENTS - PLACES} refusals, of which there are {len(answered)}", 30)
        for answer in answered.values():
            assert answer.startswith(b"HTTP/1.1 503 "), answer
            assert b"retry-after: " in answer.lower()
        shed = await asyncio.to_thread(stack.upload, user, photo_jpeg(64, 48))
        assert (shed.status_code, shed.json()["type"].rpartition(":")[2]) == (503, "unavailable")
        assert _resident_bytes(stack.gateway.pid) - before < MAY_GROW_BYTES

        # and who reads notices nothing
        status = await asyncio.to_thread(stack.http.get, f"/api/v1/images/{done}/status", headers=user)
        assert status.status_code == 200
        assert (await asyncio.to_thread(stack.http.get, "/health")).status_code == 200
    finally:
        for task in listening:
            task.cancel()
        await asyncio.gather(*listening, return_exceptions=True)
        for _, writer in clients:
            writer.transport.abort()

    # and when they have gone, everything is as it was
    async def is_taken() -> bool:
        return (await asyncio.to_thread(stack.upload, user, photo_jpeg(64, 48))).status_code == 202

    await eventually(is_taken, "a place for an upload", 20)
    assert (await asyncio.to_thread(stack.final, user, done))["status"] == "completed"
