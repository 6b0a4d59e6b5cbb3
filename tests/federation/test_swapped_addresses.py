"""Two members have moved to each other's address, and one that refers to them has not heard of it yet."""

from __future__ import annotations

from support.federation import Federation
from support.stories import begin

from exchange.demo.federation import EMBASSY, HELPLINE, SHELTER
from exchange.roster import Member
from exchange.storage.tables import INBOX


def swap(four: Federation) -> dict[str, str]:
    """Each of the two nodes runs where the other one ran; returns the addresses that the next roster lists."""
    shelter, embassy = four[SHELTER], four[EMBASSY]
    urls = {SHELTER.agency: embassy.member.node_url, EMBASSY.agency: shelter.member.node_url}
    apps = four.network.apps
    apps[shelter.port], apps[embassy.port] = apps[embassy.port], apps[shelter.port]
    for one in (shelter, embassy):
        one.node.token_server._issuer = urls[one.agency]
    return urls


async def test_what_the_wrong_node_refuses_waits_for_the_right_one(four: Federation) -> None:
    story = await begin(four, travel=False)
    urls = swap(four)

    def moved(member: Member) -> Member:
        return member.model_copy(update={"node_url": urls.get(member.agency, member.node_url)})

    await four.new_roster(member=moved, known_to=(SHELTER, EMBASSY))
    await story.travel()
    assert (await story.outgoing())["offer"] == ["queued"]
    assert b"wrong-recipient" in four.network.answered[-1]
    (four[HELPLINE].home / "roster.json").write_bytes((four[SHELTER].home / "roster.json").read_bytes())
    await four[HELPLINE].node.refresh_world()
    await story.later(hours=0.1)
    assert (await story.outgoing())["offer"] == ["delivered"]
    assert [row["kind"] for row in await story.rows(INBOX, at=four[SHELTER])] == ["offer"]


async def test_where_it_never_finds_the_right_one_its_maker_is_told(four: Federation) -> None:
    story = await begin(four, travel=False)
    swap(four)
    await story.later(hours=12)
    assert (await story.flags()).undeliverable
    await story.later(hours=72)
    assert "offer-expired" in await story.changes()
