"""Blocking calls in threads, without work that goes on behind the caller's back."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from typing import TypeVar

T = TypeVar("T")


async def run_to_end(threads: Executor | None, call: Callable[[], T]) -> T:
    """The call's answer, from a thread of `threads` (None: the loop's own).

    A thread cannot be stopped. So a caller that is cancelled waits for the call's end first: whoever cleans up after it does
    not find that the call does its work after all, and what it opened can be closed.
    """
    running = asyncio.get_running_loop().run_in_executor(threads, call)
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        # Read, so that the loop does not report an error that nobody is left to handle.
        running.exception()
        raise
