"""One door for both engines."""

from studio_coordinator.plan.memory.calibration import Calibration
from studio_coordinator.plan.memory.errors import UnknownEngineError
from studio_coordinator.plan.memory.estimate import NOT_CALIBRATED, Estimate, estimate_vllm
from studio_coordinator.plan.memory.facts import ModelFacts
from studio_coordinator.plan.memory.settings import Gpu, Settings
from studio_coordinator.plan.memory.sglang import estimate_sglang


def estimate(facts: ModelFacts, settings: Settings, gpu: Gpu, calibration: Calibration = NOT_CALIBRATED) -> Estimate:
    """Memory of `facts` under `settings` on each `gpu`; raises EstimateError when the question cannot be answered."""
    match settings.engine:
        case "vllm":
            return estimate_vllm(facts, settings, gpu, calibration)
        case "sglang":
            return estimate_sglang(facts, settings, gpu, calibration)
        case other:
            raise UnknownEngineError(other)
