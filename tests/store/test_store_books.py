"""What a pass keeps in memory of keys, recipes and links is what is stored, and is not read again while it stays."""

from builders import NOW, a_gpu, a_hello, a_key, a_recipe
from studio.v1.host_pb2 import Host
from studio_coordinator.knowledge.access_book import AccessBook
from studio_coordinator.knowledge.revision_shelf import RevisionShelf
from studio_coordinator.knowledge.stored import StoredFleet
from studio_coordinator.plan.shape import Shape
from studio_coordinator.store import access, hosts, recipes
from studio_coordinator.store.database import Database


async def test_keys_are_read_again_once_one_changed(database: Database) -> None:
    book = AccessBook(b"pepper")
    async with database.transaction() as conn:
        first = await book.table(conn, 1)
        assert await book.table(conn, 1) is first
        await access.create_key(conn, a_key("k1"))
        second = await book.table(conn, 1)
    assert ([key.id for key in second.keys], second.pepper, second.version) == (["k1"], b"pepper", first.version + 1)


async def test_another_term_trusts_nothing_that_was_read(database: Database) -> None:
    book = AccessBook(b"pepper")
    async with database.transaction() as conn:
        first = await book.table(conn, 1)
        again = await book.table(conn, 2)
    assert again is not first
    assert again == first


async def test_a_revision_is_read_once_and_one_that_is_missing_until_it_is_there(database: Database) -> None:
    shelf, wanted = RevisionShelf(), {("tiny", 1), ("tiny", 2)}
    async with database.transaction() as conn:
        await recipes.apply_recipe(conn, a_recipe(max_model_len=1024), "ann", NOW)
        first = await shelf.get(conn, wanted, 1)
        assert first.keys() == {("tiny", 1)}
        await recipes.apply_recipe(conn, a_recipe(max_model_len=2048), "ann", NOW)
        second = await shelf.get(conn, wanted, 1)
        assert second["tiny", 1] is first["tiny", 1]
        assert second["tiny", 2].args.max_model_len.value == 2048
        assert (await shelf.get(conn, wanted, 2))["tiny", 1] is not first["tiny", 1]


async def test_links_that_are_said_once_make_the_same_domains(database: Database) -> None:
    names = [f"GPU-{number}" for number in range(6)]
    # A chain of three, a pair, and one alone; only one side of the pair says so.
    peers = {0: [1], 1: [0, 2], 2: [1], 3: [4]}
    gpus = [
        a_gpu(name, place, nvlink_peers=[names[n] for n in peers.get(place, ())]) for place, name in enumerate(names)
    ]
    fleet = StoredFleet()
    async with database.transaction() as conn:
        await hosts.open_session(conn, a_hello("lab-1", *gpus, host_id="h1"), "h1", NOW)
        await fleet.refresh(conn)
        (whole,) = await hosts.list_hosts(conn)
    kept = Host.FromString(fleet.hosts()[0].message)
    assert Shape.of(kept).devices == Shape.of(whole).devices
    assert [device.nvlink for device in Shape.of(kept).devices] == [0, 0, 0, 3, 3, 5]
