"""`POST /v1/documents/infer`: the document that a sample suggests, to be looked at before it is put."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Depends, Request, Response

from bandit.core.inferred.proposal import Proposal
from bandit.serving.api import body, docs, native
from bandit.serving.api.schemas import ref
from bandit.serving.firstminutes.sample import SampleBody, proposal_of

CSV = b"text/csv"
INFER: dict[str, Any] = docs.asking(
    {200: "a document, and what each column was taken for"}, Proposal, 400, 413, 415, 422, 503
)
INFER["openapi_extra"] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": ref(SampleBody)},
            CSV.decode(): {"schema": {"description": "The rows; the first line has the columns' names."}},
        },
    }
}

router = APIRouter(dependencies=[Depends(native.known_only)])


@router.post("/v1/documents/infer", tags=["experiments"], **INFER)
async def infer(request: Request) -> Response:
    """Propose an experiment's document from a sample of data; nothing is stored.

    The body is CSV (`text/csv`), or JSON with the CSV and with the roles of columns that are known.
    """
    limit = native.service_of(request).settings.body_limit
    data = await body.read(request.scope["headers"], request.receive, limit, CSV)
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    return native.json_answer(await proposal_of(data, plain=kind == CSV.decode()))
