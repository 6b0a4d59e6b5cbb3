"""Two nodes without agency keys, on each kind of database: nothing that was said, and no key, is anywhere on them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

from sqlalchemy import create_engine, inspect, text
from support.blind import BlindStory, referred
from support.databases import MakeDatabase
from support.federation import Federation, federation
from support.founded import history_of
from support.people import CANARIES

from contracts.vocabulary import WithdrawalForm
from exchange.client.vault import Identity
from exchange.demo.federation import HELPLINE, SHELTER
from exchange.demo.search import spellings
from exchange.schemas.inbox import ProgressRequest
from exchange.storage.engine import parse_url


def _files(folder: Path) -> Iterator[tuple[str, bytes]]:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield str(path), path.read_bytes()


def _rows(url: str) -> Iterator[tuple[str, bytes]]:
    engine = create_engine(parse_url(url))
    with engine.connect() as conn:
        for table in inspect(engine).get_table_names():
            for row in conn.execute(text(f'SELECT * FROM "{table}"')):  # noqa: S608 - names of our own tables
                for value in row:
                    yield (
                        f"{url} {table}",
                        bytes(value) if isinstance(value, bytes | memoryview) else str(value).encode(),
                    )
    engine.dispose()


def _secrets(identity: Identity) -> list[bytes]:
    weekly = (identity.store.epoch_key(key_id) for key_id, _, _, _ in identity.store.epochs())
    return [identity.key.secret_bytes(), *(key.secret_bytes() for key in weekly if key is not None)]


def _found(places: list[tuple[str, bytes]], needles: list[bytes]) -> list[str]:
    return [place for place, data in places for needle in needles if needle in data]


async def _a_life(together: Federation) -> BlindStory:
    story = await referred(together, together[HELPLINE], together[SHELTER])
    await story.accepted()
    for kind in ("offer", "disclosure"):
        await story.helps.open(story.id, kind)
    await story.asks.open(story.id, "decision")
    await story.helps.report(story.id, ProgressRequest(state="in-service"))
    await together.travel()
    return story


async def test_no_word_and_no_key_is_on_a_blind_node(tmp_path: Path, make_database: MakeDatabase) -> None:
    words = [needle for word in CANARIES for _, needle in spellings(word)]
    with ExitStack() as stack:
        urls: list[str] = []

        def remembered(name: str) -> str:
            urls.append(stack.enter_context(make_database(history_of(name))))
            return urls[-1]

        maker: Callable[[str], str] = remembered
        async with federation(tmp_path, (HELPLINE, SHELTER), database=maker, blind=(HELPLINE, SHELTER)) as together:
            story = await _a_life(together)
            keys = [
                key for office in (story.asks, story.helps) if office.vault for key in _secrets(office.vault._identity)
            ]
            assert len(keys) == 14

            def servers() -> list[tuple[str, bytes]]:
                folders = [one.home for one in together.nodes.values()]
                databases = [Path(url.removeprefix("sqlite:///")).parent for url in urls if url.startswith("sqlite")]
                found = [place for folder in {*folders, *databases} for place in _files(folder)]
                return found + [row for url in urls for row in _rows(url)]

            wire = [("wire", body) for _, _, body in together.network.posted]
            wire += [("answer", body) for body in together.network.answered]
            offices = [place for one in together.nodes.values() for place in _files(one.agency_home)]
            assert _found(servers() + wire + offices, words + keys) == []
            # What is looked for is found where it is: her words in what the shelter's software opens.
            opened = (await story.helps.open(story.id, "disclosure")).model_dump_json().encode()
            assert _found([("opened", opened)], words) != []
            await story.asks.client.withdrawals.of_referral(story.id, WithdrawalForm.ERASE)
            await together.travel()
            await story.helps.attest(story.id)
            assert _found(servers(), words + keys) == []
