"""GET /view and POST /upload/image: the checks and the answers of a real server."""

from __future__ import annotations

import io
import mimetypes
from pathlib import Path
from typing import Any

from aiohttp import web

from core.engines.comfy.standin import media
from core.engines.comfy.standin.saving import Shelf

_KINDS = ("output", "input", "temp")
_DANGEROUS = ("text/html", "text/html-sandboxed", "application/xhtml+xml", "text/javascript")


def view(shelf: Shelf, request: web.Request) -> web.StreamResponse:
    """Answer a request for a file."""
    query = request.rel_url.query
    if "filename" not in query:
        return web.Response(status=404)
    name, kind = query["filename"], query.get("type", "output")
    for each in _KINDS:
        if name.endswith(f" [{each}]"):
            name, kind = name.removesuffix(f" [{each}]"), each
    if not name or name[0] == "/" or ".." in name or kind not in _KINDS:
        return web.Response(status=400)
    top = shelf.place(kind).resolve()
    folder = (top / query.get("subfolder", "")).resolve()
    if not folder.is_relative_to(top):
        return web.Response(status=403)
    path = folder / Path(name).name
    if not path.is_file():
        return web.Response(status=404)
    heading = {"Content-Disposition": f'filename="{path.name}"'}
    if "preview" in query:
        return _preview(path, query["preview"].split(";")[0], heading)
    if query.get("channel") in ("rgb", "a"):
        return _channel(path, query["channel"], heading)
    guessed = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    if guessed in _DANGEROUS:
        guessed = "application/octet-stream"
    return web.FileResponse(path, headers={**heading, "Content-Type": guessed})


def _pixels(path: Path, form: str = "rgb24") -> Any:
    import av

    with av.open(io.BytesIO(path.read_bytes())) as container:
        return next(iter(container.decode(video=0))).to_ndarray(format=form)


def _preview(path: Path, form: str, heading: dict[str, str]) -> web.Response:
    if path.suffix.lower() not in (".png", ".jpg", ".jpeg", ".webp"):
        raise ValueError("no picture")
    pixels = _pixels(path)
    if form == "jpeg":
        return web.Response(body=media.jpeg(pixels), content_type="image/jpeg", headers=heading)
    data = media.still_webp(pixels)
    return web.Response(body=data, content_type="image/webp", headers=heading)


def _channel(path: Path, channel: str, heading: dict[str, str]) -> web.Response:
    pixels = _pixels(path, "rgba")
    shown = pixels[..., :3] if channel == "rgb" else pixels[..., 3:].repeat(3, 2)
    data = media.png(shown.copy())
    return web.Response(body=data, content_type="image/png", headers=heading)


async def upload(shelf: Shelf, request: web.Request) -> web.Response:
    """Take an uploaded file, under its own name or the next free one."""
    post = await request.post()
    image = post.get("image")
    if not isinstance(image, web.FileField) or not image.filename:
        return web.Response(status=400)
    kind = str(post.get("type", "input"))
    if kind not in _KINDS:
        raise KeyError(kind)
    subfolder = str(post.get("subfolder", ""))
    top = shelf.place(kind).resolve()
    folder = (top / subfolder).resolve()
    path = (folder / image.filename).resolve()
    if not folder.is_relative_to(top) or not path.is_relative_to(folder):
        return web.Response(status=400)
    folder.mkdir(parents=True, exist_ok=True)
    data = image.file.read()
    if post.get("overwrite") not in ("true", "1"):
        path = _free(path, data)
    path.write_bytes(data)
    return web.json_response({"name": path.name, "subfolder": subfolder, "type": kind})


def _free(path: Path, data: bytes) -> Path:
    """Return the path for new content: the same where the content is, else a free one."""
    number, found = 1, path
    while found.exists() and found.read_bytes() != data:
        found = path.with_name(f"{path.stem} ({number}){path.suffix}")
        number += 1
    return found
