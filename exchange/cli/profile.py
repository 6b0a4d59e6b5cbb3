"""Where the command line finds the node, its client id and its key.

Rules:

* Looked for in this order: the folder of `--home` or `EXCHANGE_HOME`; `~/.config/exchange`; the default home of a node.
* `client.toml` names no secret: the key is in a file of its own, beside it, that only its owner can read.
* It says where the node holds no agency key (`keys_elsewhere`): nothing that is to be sealed goes there in the clear.
* The worker's id comes from `--actor`, `EXCHANGE_ACTOR` or the profile. It is pseudonymous and for the record only.
"""

from __future__ import annotations

import json
import os
import re
import tomllib
from pathlib import Path
from typing import Annotated, Final

import typer
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from exchange.client import AgencyClient, ClientKey, ClientSetupError
from exchange.oauth.scopes import CLIENT_SCOPES, Scope
from exchange.settings import DEFAULT_HOME

PROFILE_NAME: Final = "client.toml"
ACTOR_VARIABLE: Final = "EXCHANGE_ACTOR"
USER_FOLDER: Final = "~/.config/exchange"
ACTOR_PATTERN: Final = r"^[A-Za-z0-9._-]{1,64}$"
_OWNER_ONLY: Final = 0o600
ACTOR_FORM: Final = "up to 64 letters, digits, dots, hyphens and underscores, such as w-0009; never a name"

HomeOption = Annotated[
    Path | None,
    typer.Option(
        "--home", envvar="EXCHANGE_HOME", help="Folder with client.toml or with the node.", show_default=False
    ),
]
ActorOption = Annotated[
    str | None,
    typer.Option(
        "--actor",
        envvar=ACTOR_VARIABLE,
        help="Pseudonymous id of the worker who acts; never a name.",
        show_default=False,
    ),
]


class Profile(BaseModel):
    """What `client.toml` says."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    url: str
    """Address of the node."""
    issuer: str | None = None
    """The node's public address, where it differs from `url`."""
    client_id: str
    key_file: Path
    """Beside this file unless absolute."""
    scopes: frozenset[Scope] = CLIENT_SCOPES
    actor: str | None = Field(default=None, pattern=ACTOR_PATTERN)
    unit: str | None = None
    keys_elsewhere: bool | None = None
    """Whether the agency's keys are elsewhere than with the node. Where it does not say: by what lies beside it."""


def write_profile(folder: Path, profile: Profile, *, name: str = PROFILE_NAME) -> Path:
    """Write `client.toml`; an existing one is not overwritten.

    Raises:
        ClientSetupError: there is one already.
    """
    members = profile.model_dump(mode="json", exclude_none=True)
    members["scopes"] = sorted(members["scopes"])
    # JSON's strings and lists of strings are TOML's.
    lines = [f"{key} = {json.dumps(value)}" for key, value in members.items()]
    path = folder / name
    try:
        # Whoever could change the address would get what is sent.
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _OWNER_ONLY)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write("# How the command line reaches the node. The key lies beside it, in a file of its own.\n")
            file.write("\n".join(lines) + "\n")
    except FileExistsError:
        raise ClientSetupError(f"{path} exists already.") from None
    return path


def read_profile(home: Path | None) -> Profile:
    """The profile of the first folder that has one; its key file as an absolute path.

    Raises:
        ClientSetupError: there is none, or it cannot be read.
    """
    return _read(profile_folder(home) / PROFILE_NAME)


def profile_folder(home: Path | None) -> Path:
    """The first folder that has a profile.

    Raises:
        ClientSetupError: there is none.
    """
    places = [home] if home is not None else [Path(USER_FOLDER), Path(DEFAULT_HOME)]
    for place in places:
        folder = place.expanduser()
        if (folder / PROFILE_NAME).is_file():
            return folder
    looked = " and ".join(str(place / PROFILE_NAME) for place in places)
    raise ClientSetupError(
        f"No profile: {looked} is not there. Ask whoever runs your agency's node for the folder with {PROFILE_NAME}, "
        "and name it with --home. (`exchange init` makes a new node.)"
    )


def open_client(home: Path | None, actor: str | None) -> AgencyClient:
    """A client of the node that the profile names.

    Raises:
        ClientSetupError: profile, key or actor cannot be used.
    """
    profile = read_profile(home)
    if actor and not re.fullmatch(ACTOR_PATTERN, actor):
        raise ClientSetupError(f"--actor, or {ACTOR_VARIABLE}, is not acceptable: {ACTOR_FORM}.")
    return AgencyClient(
        profile.url,
        profile.client_id,
        ClientKey.load(profile.key_file),
        actor=actor or profile.actor,
        unit=profile.unit,
        scopes=profile.scopes,
        issuer=profile.issuer,
    )


def _read(path: Path) -> Profile:
    try:
        profile = Profile.model_validate_json(json.dumps(tomllib.loads(path.read_text(encoding="utf-8"))))
    except (OSError, ValidationError, ValueError, TypeError):
        raise ClientSetupError(f"{path} cannot be read as a profile.") from None
    return profile.model_copy(update={"key_file": path.parent / profile.key_file})
