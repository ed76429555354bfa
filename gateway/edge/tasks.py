"""What goes on beside the rest, as tasks: how it is ended."""

import asyncio


async def cancelled(*tasks: "asyncio.Task[object]") -> None:
    """Cancel them, and wait until they have ended; what they raised is of no interest any more."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
