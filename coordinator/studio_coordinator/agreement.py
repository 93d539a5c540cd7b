"""Does what lies beside this coordinator belong to this database? Else it would write what no other can read."""

from studio_coordinator.identity import Identity, PepperError
from studio_coordinator.sealing import SealingError
from studio_coordinator.store import key_pepper, master_key, secrets
from studio_coordinator.store.database import Database


async def agree_on_keys(database: Database, identity: Identity) -> None:
    """Compare pepper and master key with what is on record; where the master key is a newer one, seal anew with it.

    Raises PepperError or SealingError. The first coordinator of a database puts its own on record.
    """
    sealer = identity.sealer
    async with database.transaction() as conn:
        if not await key_pepper.agree(conn, identity.pepper_check):
            raise PepperError(
                "this coordinator's key pepper is not the one that the keys in this database are hashed with",
                "Copy key-pepper from the state folder of the coordinator that made them; name it with --key-pepper-file.",
            )
        if not await master_key.agree(conn, sealer.check_value, sealer.known_check_values):
            raise SealingError(
                "this coordinator's master key is not the one that the secrets in this database are sealed with",
                "Copy master-key from the state folder of the coordinator that stored them; name it with --master-key-file.",
            )
        await secrets.seal_anew(conn, sealer)
