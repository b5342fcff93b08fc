"""What every request of the draft needs: its fields, the upload it is about, refusals and answers."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import wraps

from werkzeug import Response

from carboy.engine import limits
from carboy.engine.receive import Digests
from carboy.errors import CarboyError, Conflict, InvalidRequest, OffsetMismatch, TooLarge, UploadGone
from carboy.model import File, Placed, Progress, Upload
from carboy.web import http
from carboy.web.call import Call, Handler
from carboy.web.prefer import stored_response
from carboy.web.protocols.resumable import fields
from carboy.web.protocols.resumable.fields import Version
from carboy.web.render import Finished, address


class Refused(Exception):
    """A refusal that has a problem type of the draft's own."""

    def __init__(self, kind: str, error: CarboyError, status: int = 400, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(kind)
        self.kind = kind
        self.error = error
        self.status = status
        self.headers = headers or {}

    def answer(self, request_id: str) -> Response:
        """Carboy's problem, with the type and the members of the draft."""
        response = http.problem(self.error, request_id, status=self.status)
        members = {**json.loads(response.get_data()), "type": fields.PROBLEM + self.kind}
        if isinstance(self.error, OffsetMismatch):
            members |= {"expected-offset": members["expected"], "provided-offset": members["provided"]}
        response.set_data(json.dumps(members) + "\n")
        response.headers.update(self.headers)
        return response


@dataclass(frozen=True, slots=True)
class Asked:
    """What the request's fields say; None for what they don't, or say in a way that has no meaning."""

    version: Version
    complete: bool | None
    offset: int | None
    length: int | None
    comes: int | None
    """The length of the body, where it is declared."""

    def whole(self, at: int) -> int | None:
        """The upload's length as far as this request knows it, with its body at this offset. Raises Refused where it contradicts itself."""
        known = {size for size in (self.length, at + self.comes if self.complete and self.comes is not None else None) if size is not None}
        if len(known) > 1:
            raise inconsistent(f"the request tells two lengths: {' and '.join(map(str, sorted(known)))}")
        return next(iter(known), None)


def asked(call: Call) -> Asked:
    """Raises InvalidRequest, TooLarge for a Content-Length that is none."""
    version = fields.version(call.header(fields.VERSION_FIELD))
    comes = call.length
    return Asked(version, fields.completeness(version, call.header(version.complete)), fields.integer(call.header("Upload-Offset")),
                 fields.integer(call.header("Upload-Length")), 0 if comes is None and not call.has_body else comes)


def resumable(handler: Handler) -> Handler:
    """Refusals get the types, the statuses and the fields of the draft."""

    @wraps(handler)
    def answer(call: Call, **where: str) -> Response:
        try:
            return handler(call, **where)
        except OffsetMismatch as error:
            version = fields.version(call.header(fields.VERSION_FIELD))
            return Refused("mismatching-upload-offset", error, 409, {"Upload-Offset": str(error.facts["expected"]),
                                                                     **fields.told_completeness(version, False)}).answer(call.id)
        except Refused as refused:
            return refused.answer(call.id)

    return answer


def inconsistent(detail: str) -> Refused:
    """The request's length of the upload is not the one that is known."""
    return Refused("inconsistent-upload-length", InvalidRequest(detail, field="Upload-Length"))


def past_the_length(call: Call, upload: Upload, error: TooLarge) -> Refused:
    """More came than the upload has: it is invalid from then on, for nobody knows which of it was meant."""
    call.services.uploads.give_up(upload, "too_large")
    return Refused("inconsistent-upload-length", error, 413, told_limits(call, fields.FINAL, upload))


def over(upload: Upload, brings: bool) -> CarboyError | Refused:
    """Why an upload that takes no more bytes refuses this request."""
    if upload.state != "complete":
        return UploadGone(f"the upload is {upload.state}", state=upload.state, failure=upload.failure)
    if brings:
        return inconsistent(f"the upload is complete, with {upload.size} bytes")
    return Refused("completed-upload", Conflict("the upload is complete", state=upload.state, file=upload.file_id), 400)


# --- what the body must hash to ------------------------------------------------------------------------------------


def of_request(call: Call) -> Digests:
    """What this request's body must hash to. Raises InvalidRequest."""
    return _digests(call, "content-digest", "content-md5")


def of_whole(call: Call) -> dict[str, str]:
    """What the whole must hash to, and what is to be known of it: ``Repr-Digest`` and ``Want-Repr-Digest``. Raises InvalidRequest."""
    wanted = {"sha-256": ""} if "sha-256" in http.wanted_digests(call.header("Want-Repr-Digest")) else {}
    return {**wanted, **{name: digest.hex() for name, digest in _digests(call, "repr-digest")}}


def _digests(call: Call, *names: str) -> Digests:
    return http.expected_digests({name: value for name in names if (value := call.header(name))})


# --- answers -------------------------------------------------------------------------------------------------------


def upload_address(id: str) -> str:
    """Its path, so that it holds whatever host and scheme the client knows."""
    return address(f"/uploads/{id}")


def told_limits(call: Call, version: Version, upload: Upload) -> dict[str, str]:
    """``Upload-Limit`` of this upload."""
    services = call.services
    rules = services.files.rules(upload.space)
    most = limits.largest(services.settings, rules) if rules else services.settings.max_size
    return fields.limits(version, most, upload.expires_at - services.uploads.clock())


def state(call: Call, version: Version, progress: Progress) -> dict[str, str]:
    """Where the upload stands, as HEAD tells it."""
    upload = progress.upload
    told = {**fields.told_completeness(version, upload.state == "complete"), "Upload-Offset": str(offset(progress)),
            **told_limits(call, version, upload)}
    if upload.size is not None:
        told["Upload-Length"] = str(upload.size)
    file = call.services.uploads.file(upload)
    return {**told, **_of_file(call, upload.digests, file)} if file else told


def _of_file(call: Call, digests: Collection[str], file: File) -> dict[str, str]:
    """What the upload became, and its digest where that was asked for, now or in the beginning."""
    sha256 = file.blob.sha256
    wanted = "sha-256" in digests or "sha-256" in http.wanted_digests(call.header("Want-Repr-Digest"))
    return {"Carboy-File": file.id, **({"Repr-Digest": http.digest_field({"sha-256": sha256})} if wanted and sha256 else {})}


def offset(progress: Progress) -> int:
    """Where the next byte belongs."""
    upload = progress.upload
    return upload.size or 0 if upload.state == "complete" else progress.offset


def finished(call: Call, version: Version, progress: Progress, placed: Placed | None) -> Response:
    """What the address that the upload was made at answers for a whole body. Raises UploadGone where the file is gone already."""
    upload = progress.upload
    file = placed.file if placed else call.services.uploads.file(upload)
    if file is None:
        raise UploadGone(f"the upload is {upload.state}", state=upload.state, failure=upload.failure)
    return stored(call, version, placed or Placed(file, created=file.version == 1), upload.digests)


def stored(call: Call, version: Version, placed: Placed, digests: Collection[str] = ()) -> Response:
    """The file, as its address answers for a whole body; ``digests`` are those that the upload was to have."""
    call.stored(placed)
    response = stored_response(call, placed)
    response.headers.update({**fields.told_completeness(version, True), "Upload-Offset": str(placed.file.size),
                             **_of_file(call, digests, placed.file)})
    return response


def empty(status: int, headers: Mapping[str, str]) -> Response:
    """An answer without a body, which no cache keeps."""
    length = {} if status == 204 else {"Content-Length": "0"}
    response = Finished([], status, {"Cache-Control": "no-store", **headers, **length})
    del response.headers["Content-Type"]
    return response
