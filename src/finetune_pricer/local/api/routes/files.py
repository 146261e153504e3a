"""Routes of files: upload, list, read back, delete."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from ...records import StoredFile, now
from ..requests import ExpiryBody, check_file_name, cut_page, is_ascending, parse_body, report_unknown
from ..responses import ApiError, invalid_value, json_response, missing_parameter

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import Receive, Scope, Send

    from ...database import Database
    from ..app import ServerState

PURPOSES = ("fine-tune", "batch", "user_data")
MOST_FILES = 10_000
_FIELDS = ("file", "purpose", "expires_after[anchor]", "expires_after[seconds]")
_MONTH = 30 * 86_400  # after which the input of a batch expires


class FileRoutes:
    """Handlers of `/v1/files`."""

    def __init__(self, state: ServerState) -> None:
        self._state = state
        self._database = state.database

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
        """Keep an uploaded file."""
        if not request.headers.get("content-type", "").startswith("multipart/form-data"):
            message = "The body of your request must be multipart/form-data with a 'file'."
            raise ApiError(400, message, param="file")
        async with request.form(max_files=1, max_fields=20) as form:
            upload, purpose = form.get("file"), form.get("purpose")
            report_unknown([name for name in form if name not in _FIELDS], strict=self._state.strict)
            if not isinstance(upload, UploadFile):
                raise missing_parameter("file")
            if not isinstance(purpose, str):
                raise missing_parameter("purpose")
            if purpose not in PURPOSES:
                raise invalid_value(f"'{purpose}' is not one of {list(PURPOSES)} - 'purpose'", "purpose")
            if not upload.size:
                raise invalid_value("The file is empty.", "file", code="empty_file")
            if self._database.count_files() >= MOST_FILES:
                message = f"You have {MOST_FILES:,} files; delete some before you upload more."
                raise invalid_value(message, "file", code="too_many_files")
            expires = _read_expiry(form, purpose)
            check_file_name(upload.filename or "")
            name = (upload.filename or "upload").replace("\\", "/").rpartition("/")[2] or "upload"
            stored = await run_in_threadpool(
                self._database.add_file, upload.file, filename=name, purpose=purpose, expires_at=expires
            )
        return json_response(self._state.serializer.file(stored))

    async def list(self, request: Request) -> Response:
        """List files, the newest first."""
        purpose, rising = request.query_params.get("purpose"), is_ascending(request)
        files = [file for file in self._database.list_files() if purpose in (None, file.purpose)]
        rows = [self._state.serializer.file(file) for file in (files[::-1] if rising else files)]
        return json_response(cut_page(request, rows, most=10_000, usual=10_000))

    async def retrieve(self, request: Request) -> Response:
        """Show one file."""
        return json_response(self._state.serializer.file(self._readable(request)))

    async def delete(self, request: Request) -> Response:
        """Delete a file."""
        file = self._file(request)
        self._database.delete_file(file)
        return json_response({"id": file.id, "object": "file", "deleted": True})

    async def content(self, request: Request) -> Response:
        """Return the content of a file."""
        return _FileContent(self._database, self._readable(request))

    def _readable(self, request: Request) -> StoredFile:
        """Return a file, or one of a model's weights, which are no files that could be deleted or used."""
        weights = self._database.find_weights(request.path_params["file_id"])
        return self._file(request) if weights is None else weights

    def _file(self, request: Request) -> StoredFile:
        file_id = request.path_params["file_id"]
        file = self._database.find_file(file_id)
        if file is None:
            raise _file_not_found(file_id)
        return file


class _FileContent(FileResponse):
    """The content of a file, which a deletion in the meantime leaves where it is."""

    def __init__(self, database: Database, file: StoredFile) -> None:
        super().__init__(database.blobs.path(file.sha256), media_type="application/octet-stream")
        self._database = database
        self._file = file

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._database.lend_blob(self._file.sha256) as path:
            if path is None:
                raise _file_not_found(self._file.id)
            await super().__call__(scope, receive, send)


def _file_not_found(file_id: str) -> ApiError:
    return ApiError(404, f"No such File object: {file_id}", param="id")


def _read_expiry(form: FormData, purpose: str) -> int | None:
    given = {name: form.get(f"expires_after[{name}]") for name in ("anchor", "seconds")}
    if given == {"anchor": None, "seconds": None}:
        return now() + _MONTH if purpose == "batch" else None
    seconds = given["seconds"]
    is_number = isinstance(seconds, str) and seconds.isascii() and seconds.isdecimal() and len(seconds) < 9
    number = int(str(seconds)) if is_number else seconds
    try:
        body = parse_body(ExpiryBody, {"anchor": given["anchor"], "seconds": number}, strict=True)
    except ApiError as error:
        param = f"expires_after.{error.error['param']}"
        raise invalid_value(str(error), param) from error
    return now() + body.seconds
