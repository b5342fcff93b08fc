"""Starlette's two ways of receiving a file, as its documentation shows them."""

import os
import shutil

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse
from starlette.routing import Route

STORE = os.environ["STORE"]


async def raw(request):
    with open(os.path.join(STORE, request.path_params["name"]), "wb", buffering=0) as file:
        async for chunk in request.stream():
            file.write(chunk)
    return JSONResponse({"message": "uploaded"})


def save(upload):
    with open(os.path.join(STORE, os.path.basename(upload.filename)), "wb") as file:
        shutil.copyfileobj(upload.file, file, 1 << 20)


async def form(request):
    async with request.form() as fields:
        await run_in_threadpool(save, fields["file"])
    return JSONResponse({"message": "uploaded"})


app = Starlette(routes=[Route("/raw/{name}", raw, methods=["PUT"]), Route("/upload", form, methods=["POST"])])
