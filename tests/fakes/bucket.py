"""A bucket of an S3 in memory: objects are put, read in ranges, listed and removed; nothing else is known to it."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import md5
from xml.sax.saxutils import escape

from aiohttp import web


class Bucket:
    """Its objects, and what it does."""

    def __init__(self) -> None:
        self.url = ""
        self.objects: dict[str, bytes] = {}
        self.down = False
        """Every call gets 503."""
        self.unsigned = 0
        """Calls without a signature."""

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """One call."""
        content = b"".join([chunk async for chunk in request.content.iter_any()])  # read() stops at a MiB
        self.unsigned += not request.headers.get("Authorization", "").startswith("AWS4-HMAC-SHA256 Credential=AK")
        if self.down:
            return web.Response(status=503)
        key = request.path.removeprefix("/bucket").lstrip("/")
        if request.method == "GET" and "list-type" in request.query:
            return self._listed(request.query.get("prefix", ""), request.query.get("delimiter"))
        if request.method == "POST" and "delete" in request.query:
            return self._deleted(content)
        if request.method == "PUT":
            self.objects[key] = content
            return web.Response(headers={"ETag": f'"{md5(content).hexdigest()}"'})  # noqa: S324 - S3's own
        return self._given(request, key)

    def _given(self, request: web.BaseRequest, key: str) -> web.Response:
        if key not in self.objects:
            return web.Response(
                status=404, text="<Error><Code>NoSuchKey</Code></Error>", content_type="application/xml"
            )
        content = self.objects[key]
        headers = {"ETag": '"1"', "Last-Modified": "Sun, 22 Nov 2026 04:21:00 GMT"}
        wanted = request.http_range
        if wanted.start is None and wanted.stop is None:
            return web.Response(body=content, headers=headers)
        start, stop, _ = wanted.indices(len(content))
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(content)}"
        return web.Response(status=206, body=content[start:stop], headers=headers)

    def _listed(self, prefix: str, delimiter: str | None) -> web.Response:
        contents, prefixes = "", set()
        for key, content in sorted(self.objects.items()):
            if key.startswith(prefix):
                rest = key.removeprefix(prefix)
                if delimiter and delimiter in rest:
                    prefixes.add(prefix + rest.partition(delimiter)[0] + delimiter)
                else:
                    at = "<LastModified>2026-11-22T04:21:00.000Z</LastModified>"
                    contents += f"<Contents><Key>{escape(key)}</Key><Size>{len(content)}</Size>{at}</Contents>"
        folders = "".join(f"<CommonPrefixes><Prefix>{each}</Prefix></CommonPrefixes>" for each in sorted(prefixes))
        return _xml(f"<ListBucketResult><IsTruncated>false</IsTruncated>{contents}{folders}</ListBucketResult>")

    def _deleted(self, content: bytes) -> web.Response:
        keys = re.findall("<Key>([^<]+)</Key>", content.decode())
        for key in keys:
            self.objects.pop(key, None)
        return _xml(f"<DeleteResult>{''.join(f'<Deleted><Key>{key}</Key></Deleted>' for key in keys)}</DeleteResult>")


def _xml(text: str) -> web.Response:
    return web.Response(text=f'<?xml version="1.0" encoding="UTF-8"?>{text}', content_type="application/xml")


@asynccontextmanager
async def opened() -> AsyncIterator[Bucket]:
    """A bucket that answers."""
    bucket = Bucket()
    runner = web.ServerRunner(web.Server(bucket.answer, access_log=None), shutdown_timeout=0.01)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    bucket.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield bucket
    finally:
        await runner.cleanup()
        await asyncio.sleep(0)
