"""What a running agent does without: each of these would cost every host some megabytes."""

import subprocess
import sys

# Of a host that has joined, of the pulling child, of the sampler's child, of one engine, and of tracing that goes somewhere.
LEFT_OUT = {
    "cryptography", "huggingface_hub", "httpx", "httpx2", "pynvml", "amdsmi", "yaml", "sqlalchemy", "litellm", "rich",
    "opentelemetry.exporter", "studio.v1.admin_service_pb2_grpc", "studio_agent.models.fetch", "studio_agent.gpu.nvml",
    "studio_agent.demo_engine", "studio_agent.doctor",
}  # fmt: skip
PROGRAM = """
import sys
from studio_agent import __main__
__main__._leave_out("rich", "greenlet")
import studio_agent.assembly
print("\\n".join(name for name, module in sys.modules.items() if module is not None))
"""


def test_a_running_agent_imports_nothing_that_only_others_need() -> None:
    ran = subprocess.run([sys.executable, "-c", PROGRAM], check=True, capture_output=True, text=True)
    imported = set(ran.stdout.split())
    assert "studio_agent.supervise.loop" in imported
    assert not imported & LEFT_OUT
