"""The protocol in force, and the keys of the agencies it is in force with."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from exchange.api.callers import ContractsReader
from exchange.api.operations import Operation, operation
from exchange.api.parameters import Agency, ContractDigest
from exchange.api.rendering import render, revalidated
from exchange.schemas.node import ContractList, ContractView, PeerKeys
from exchange.use_cases.describe_node import list_contracts, peer_keys, read_contract

router = APIRouter(tags=["contracts"])


@router.get("/v1/contracts")
@operation(Operation(ContractList, "The contracts."))
async def list_contracts_in_force(call: ContractsReader) -> Response:
    """List contracts.

    Every contract this node has read, and with whom it is in force.
    """
    return render(await list_contracts(call.node))


@router.get("/v1/contracts/{digest}")
@operation(Operation(ContractView, "The contract.", revalidated=True))
async def get_contract(request: Request, call: ContractsReader, digest: ContractDigest) -> Response:
    """Read a contract.

    As data, and readable: prose and matrix together, the same file that directors sign and nodes evaluate.
    """
    contract = await read_contract(call.node, digest)
    return revalidated(request, contract.model_dump_json(exclude_none=True).encode())


@router.get("/v1/peers/{agency}/keys")
@operation(Operation(PeerKeys, "The keys."))
async def get_peer_keys(call: ContractsReader, agency: Agency) -> Response:
    """Read a peer's keys.

    The keys of another agency as this node has verified them, each with the signed statement that proves it.
    """
    return render(await peer_keys(call.node, agency))
