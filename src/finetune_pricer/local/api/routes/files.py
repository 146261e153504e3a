"""Files: uploaded, listed, read back, deleted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from ...records import StoredFile, now
from ..reading import is_ascending, page_of
from ..refusals import ApiError, as_json, invalid_value, missing
from ..requests import ExpiryBody, read_value, tell_unknown

if TYPE_CHECKING:
    from starlette.requests import Request

    from ..service import Service

PURPOSES = ("fine-tune", "batch", "user_data")
MOST_FILES = 10_000
_FIELDS = ("file", "purpose", "expires_after[anchor]", "expires_after[seconds]")
_MONTH = 30 * 86_400  # after which an input of a batch goes by itself


class FileRoutes:
    """One method per route."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._database = service.database

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("/v1/files", self.create, methods=["POST"]),
            Route("/v1/files", self.list, methods=["GET"]),
            Route("/v1/files/{file_id}", self.retrieve, methods=["GET"]),
            Route("/v1/files/{file_id}", self.delete, methods=["DELETE"]),
            Route("/v1/files/{file_id}/content", self.content, methods=["GET"]),
        ]

    async def create(self, request: Request) -> Response:
        """Take a file."""
        if not request.headers.get("content-type", "").startswith("multipart/form-data"):
            message = "The body of your request must be multipart/form-data with a 'file'."
            raise ApiError(400, message, param="file")
        async with request.form(max_files=1, max_fields=20) as form:
            upload, purpose = form.get("file"), form.get("purpose")
            tell_unknown([name for name in form if name not in _FIELDS], strict=self._service.strict)
            if not isinstance(upload, UploadFile):
                raise missing("file")
            if not isinstance(purpose, str):
                raise missing("purpose")
            if purpose not in PURPOSES:
                raise invalid_value(f"'{purpose}' is not one of {list(PURPOSES)} - 'purpose'", "purpose")
            if not upload.size:
                raise invalid_value("The file is empty.", "file", code="empty_file")
            if self._database.count_files() >= MOST_FILES:
                message = f"You have {MOST_FILES:,} files; delete some before you upload more."
                raise invalid_value(message, "file", code="too_many_files")
            expires = _expiry(form, purpose)
            name = (upload.filename or "upload").replace("\\", "/").rpartition("/")[2] or "upload"
            stored = await run_in_threadpool(
                self._database.add_file, upload.file, filename=name, purpose=purpose, expires_at=expires
            )
        return as_json(self._service.wire.file(stored))

    async def list(self, request: Request) -> Response:
        """Show files, the newest first."""
        purpose, rising = request.query_params.get("purpose"), is_ascending(request)
        files = [file for file in self._database.list_files() if purpose in (None, file.purpose)]
        rows = [self._service.wire.file(file) for file in (files[::-1] if rising else files)]
        return as_json(page_of(request, rows, most=10_000, usual=10_000))

    async def retrieve(self, request: Request) -> Response:
        """Show one."""
        return as_json(self._service.wire.file(self._file(request)))

    async def delete(self, request: Request) -> Response:
        """Forget one."""
        file = self._file(request)
        self._database.delete_file(file)
        return as_json({"id": file.id, "object": "file", "deleted": True})

    async def content(self, request: Request) -> Response:
        """Give one back as it came."""
        file = self._file(request)
        return FileResponse(self._database.blobs.path(file.sha256), media_type="application/octet-stream")

    def _file(self, request: Request) -> StoredFile:
        file_id = request.path_params["file_id"]
        file = self._database.find_file(file_id)
        if file is None:
            raise ApiError(404, f"No such File object: {file_id}", param="id")
        return file


def _expiry(form: FormData, purpose: str) -> int | None:
    given = {name: form.get(f"expires_after[{name}]") for name in ("anchor", "seconds")}
    if given == {"anchor": None, "seconds": None}:
        return now() + _MONTH if purpose == "batch" else None
    seconds = given["seconds"]
    is_number = isinstance(seconds, str) and seconds.isascii() and seconds.isdecimal() and len(seconds) < 9
    number = int(str(seconds)) if is_number else seconds
    try:
        body = read_value(ExpiryBody, {"anchor": given["anchor"], "seconds": number}, strict=True)
    except ApiError as error:
        param = f"expires_after.{error.error['param']}"
        raise invalid_value(str(error), param) from error
    return now() + body.seconds
