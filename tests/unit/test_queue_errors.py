"""Nothing of the broker's client library escapes its adapter, and nothing else is taken for an outage."""

import asyncio

import pytest
from aio_pika.exceptions import AMQPConnectionError, ChannelInvalidStateError, ChannelNotFoundEntity

from common.adapters.rabbitmq.link import translated
from common.errors import Unavailable


@pytest.mark.parametrize(
    "error",
    [
        TimeoutError(),
        ConnectionResetError("reset"),
        AMQPConnectionError("refused"),
        ChannelNotFoundEntity("no exchange"),
        ChannelInvalidStateError("closed"),
        Exception(),  # what the library rejects pending calls with, where a connection closed without a fault
        asyncio.CancelledError(),  # the same, where its own tasks were cancelled
    ],
    ids=repr,
)
async def test_what_the_client_library_raises_is_an_outage(error: BaseException) -> None:
    with pytest.raises(Unavailable) as caught, translated():
        raise error
    assert caught.value.service == "queue"
    assert caught.value.reason


@pytest.mark.parametrize("error", [TypeError("our bug"), KeyError("our bug")], ids=repr)
def test_a_bug_is_no_outage(error: Exception) -> None:
    with pytest.raises(type(error)), translated():
        raise error


async def test_who_is_cancelled_stays_cancelled() -> None:
    # given
    async def wait() -> None:
        with translated():
            await asyncio.Event().wait()

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    # when
    task.cancel()
    await asyncio.wait([task])
    # then
    assert task.cancelled()
