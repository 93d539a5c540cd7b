"""A process that an engine leaves behind: it holds simulated GPU memory until it is killed, ten minutes at most."""

import sys
import time

from studio_agent.demo_engine.misbehaviour import MemoryClaim

LIFE_SECONDS = 600

if __name__ == "__main__":
    claim = MemoryClaim(int(sys.argv[1]))
    claim.take()
    time.sleep(LIFE_SECONDS)
    claim.release()
