"""For whoever operates the node. Says nothing about anybody; metrics leave by OTLP only."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from exchange.api.examples import NOT_READY
from exchange.api.operations import Operation, operation
from exchange.api.rendering import render
from exchange.api.serving import serving
from exchange.schemas.node import Health
from exchange.use_cases.describe_node import readiness

router = APIRouter(tags=["health"])
_READY = "ready"
_UNAVAILABLE = 503


@router.get("/health/live")
@operation(Operation(Health, "The process answers."))
async def get_liveness() -> Response:
    """Ask whether the process lives.

    Answers as long as the process can answer at all; it asks no database.
    """
    return render(Health(status="live"))


@router.get("/health/ready")
@operation(
    Operation(
        Health,
        "The node can do its work; with 503 it cannot, and `checks` say what it lacks.",
        unavailable=NOT_READY,
        problems=("starting",),
    )
)
async def get_readiness(request: Request) -> Response:
    """Ask whether the node can do its work.

    Databases, keys, roster and contract, each by a word. `503` means: send no requests here now.
    """
    health = await readiness(serving(request).node)
    return render(health, status=200 if health.status == _READY else _UNAVAILABLE)
