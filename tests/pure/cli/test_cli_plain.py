from studio.v1.admin_service_pb2 import Applied
from studio.v1.host_pb2 import Gpu, Host
from studio.v1.recipe_pb2 import Recipe
from studio.v1.replica_pb2 import Replica, StartProgress
from studio_cli.views.plain import plain


def test_enums_lose_their_prefix_and_integers_are_numbers():
    gpu = Gpu(uuid="GPU-1", memory_bytes=80 * 2**30, health=Gpu.HEALTH_QUARANTINED)
    host = plain(Host(name="lab-1", state=Host.STATE_SUSPECT, gpus=[gpu], labels={"pool": "prod"}))
    assert host["state"] == "SUSPECT"
    assert host["gpus"][0]["health"] == "QUARANTINED"
    assert host["gpus"][0]["memory_bytes"] == 80 * 2**30
    assert host["labels"] == {"pool": "prod"}
    assert plain(Applied(outcome=Applied.OUTCOME_CREATED))["outcome"] == "CREATED"
    assert plain(StartProgress(phase=StartProgress.PHASE_WARM_UP))["phase"] == "WARM_UP"


def test_what_is_unknown_is_absent_and_everything_else_is_there():
    replica = plain(Replica(id="chat-1"))
    assert replica["restarts"] == 0
    assert replica["gpu_uuids"] == []
    assert "figures" not in replica
    replica = plain(Replica(figures={"running": 0.0}))
    assert replica["figures"]["running"] == 0.0
    assert "waiting" not in replica["figures"]


def test_the_order_is_the_contracts():
    names = [field.name for field in Replica.DESCRIPTOR.fields]
    shown = list(plain(Replica(version=3, id="chat-1")))
    assert shown == [name for name in names if name in shown]


def test_without_defaults_only_what_is_set():
    recipe = Recipe(name="r", env={"A": "1"})
    recipe.resources.gpu.count.value = 0
    recipe.resources.gpu.memory.auto = True
    recipe.extra_args["flag"].bool_value = True
    recipe.args.speculative.update({"method": "ngram"})
    assert plain(recipe, defaults=False) == {
        "name": "r",
        "args": {"speculative": {"method": "ngram"}},
        "extra_args": {"flag": True},
        "env": {"A": "1"},
        "resources": {"gpu": {"count": 0, "memory": "auto"}},
    }
