"""A node that is started again uses no older roster than before: who was suspended stays out, and a stolen key too."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support.federation import Federation, federation
from support.founded import PASSPHRASE
from support.replaced_keys import another_agency_key, another_node_key, started_with

from exchange.cli.doctor import examine
from exchange.demo.federation import HELPLINE, SHELTER
from exchange.roster import Member, Status, parse_roster, roster_bytes
from exchange.startup import StartRefusedError, check_start, open_node
from exchange.storage.used_roster import used_roster
from exchange.use_cases.maintain import maintain


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Federation]:
    """Two nodes, of which the helpline's is started again."""
    async with federation(tmp_path, (HELPLINE, SHELTER)) as together:
        yield together


def suspended(member: Member) -> Member:
    return member.model_copy(update={"status": Status.SUSPENDED}) if member.agency == SHELTER.agency else member


async def starts(pair: Federation) -> int:
    """The helpline's node is started; with which version."""
    check_start(pair[HELPLINE].settings)
    async with open_node(pair[HELPLINE].settings) as node:
        return node.world().roster.version


async def refused(pair: Federation) -> None:
    """Neither the command nor a process starts, and both say who must do what."""
    with pytest.raises(StartRefusedError, match=r"operator must install the federation's newest roster") as by_command:
        check_start(pair[HELPLINE].settings)
    with pytest.raises(StartRefusedError, match=r"operator must install the federation's newest roster"):
        async with open_node(pair[HELPLINE].settings):
            pass
    assert not by_command.value.may_pass


async def test_an_older_one_than_was_taken_while_running_is_refused_at_the_start(pair: Federation) -> None:
    path = pair[HELPLINE].home / "roster.json"
    older = path.read_bytes()
    await pair.new_roster(member=suspended)
    await maintain(pair[HELPLINE].node)
    newer = path.read_bytes()
    path.write_bytes(older)
    await refused(pair)
    path.write_bytes(newer)
    assert await starts(pair) == 2


async def test_an_older_one_than_another_start_has_used_is_refused(pair: Federation) -> None:
    path = pair[HELPLINE].home / "roster.json"
    older = path.read_bytes()
    await pair.new_roster(member=suspended)
    assert await starts(pair) == 2
    path.write_bytes(older)
    await refused(pair)


async def test_another_one_of_the_same_version_is_refused(pair: Federation) -> None:
    path = pair[HELPLINE].home / "roster.json"
    known = parse_roster(path.read_bytes())
    members = tuple(suspended(member) for member in known.members.values())
    path.write_bytes(
        roster_bytes(version=known.version, synthetic=known.synthetic, members=members, contracts=known.contracts)
    )
    await refused(pair)


async def test_a_process_that_is_behind_does_not_take_back_what_another_has_used(pair: Federation) -> None:
    node = pair[HELPLINE].node
    behind = node.world()
    await pair.new_roster()
    await maintain(node)
    node.world = lambda: behind
    await maintain(node)
    used = await node.database.read(used_roster)
    assert used is not None
    assert used.version == 2


async def test_another_federations_is_not_taken_however_high_its_version(pair: Federation) -> None:
    """With that version remembered the right roster would count as older, and the node would never start again."""
    path = pair[HELPLINE].home / "roster.json"
    known = parse_roster(path.read_bytes())
    others = tuple(
        member.model_copy(update={"agency_key": os.urandom(32), "node_key": os.urandom(32)})
        for member in known.members.values()
    )
    path.write_bytes(roster_bytes(version=500, synthetic=known.synthetic, members=others))
    node = pair[HELPLINE].node
    await node.refresh_world()
    await maintain(node)
    assert node.world().roster.version == 1
    path.write_bytes(known.source)
    assert await starts(pair) == 1
    await pair.new_roster(member=suspended)
    assert node.world().roster.version == 2


async def test_one_in_which_every_key_is_another_is_taken_at_the_start_with_the_new_key_file(pair: Federation) -> None:
    """A small federation renews all its keys at once: each node has to be started anew for its own."""
    helpline, shelter = pair[HELPLINE], pair[SHELTER]
    keys = {
        one.agency: {"agency_key": another_agency_key(), "node_key": another_node_key()} for one in (helpline, shelter)
    }

    def renewed(member: Member) -> Member:
        return member.model_copy(update={name: key.public for name, key in keys[member.agency].items()})

    await pair.new_roster(member=renewed)
    assert helpline.node.world().roster.version == 1
    found = examine(helpline.settings, PASSPHRASE, offline=True)
    (said, *_) = [one for one in found if one.sentence == "The roster lists another agency key."]
    assert "put the new key file in its place" in said.what_to_do
    async with started_with(pair, HELPLINE, **keys[HELPLINE.agency]):
        assert helpline.node.world().roster.version == 2
