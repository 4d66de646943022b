import asyncio
import threading

import pytest

from common.adapters.threads import run_to_end


async def test_a_cancelled_caller_waits_for_the_end_of_its_thread() -> None:
    begun, may_end, ended = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        may_end.wait(10)
        ended.set()

    caller = asyncio.create_task(run_to_end(None, work))
    await asyncio.to_thread(begun.wait, 10)
    caller.cancel()
    done, _ = await asyncio.wait([caller], timeout=0.05)
    assert not done

    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert ended.is_set()


async def test_a_cancelled_caller_is_cancelled_whatever_its_thread_raises() -> None:
    begun, may_end = threading.Event(), threading.Event()

    def fail() -> None:
        begun.set()
        may_end.wait(10)
        raise OSError("too late to matter")

    caller = asyncio.create_task(run_to_end(None, fail))
    await asyncio.to_thread(begun.wait, 10)
    caller.cancel()
    may_end.set()

    with pytest.raises(asyncio.CancelledError):
        await caller
