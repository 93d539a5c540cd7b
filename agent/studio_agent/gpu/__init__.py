"""GPU telemetry: what a host's GPUs are, what they do by the second, and whether they can be trusted with work.

A driver's library may hang for ever in the kernel. So it is never loaded into the agent: a child process reads
it, and the agent reads the child through a pipe with a time limit.

    agent ── GpuSampler ◄── pipe, one frame a tick ── gpu.child ── NVML or AMD SMI
               │ picture (facts, figures, health, events)

| file | concept |
|---|---|
| ``sampler`` | ``GpuSampler``, what the agent uses: starts, watches and replaces the child |
| ``picture`` | folds frames into the latest facts, figures, health and events |
| ``health``, ``xids`` | pure: evidence → healthy, degraded or quarantined, and the table of the driver's error numbers |
| ``respawn`` | pure: when the next child may start |
| ``frames``, ``reading`` | the messages between child and agent |
| ``childprocess`` | one child as the agent sees it: pid, pipes, polite end |
| ``child``, ``sampling`` | the child: its loop, and one tick |
| ``reader``, ``vendors`` | what the child asks of a vendor's library, and which one that is |
| ``nvml``, ``amd`` | NVIDIA's and AMD's library, each the only importer of its binding |
| ``host`` | what the child must know of the host itself |

Words: *gpu* is identified by UUID, never by index. *Absent* is a value that the driver does not give; it is never zero.
*Stale* is a value that was not renewed for two intervals. *Lost* is a GPU that the driver has given up. *Partitioned*
is a GPU in MIG mode: work goes to its instances, each with its own UUID.

This package imports nothing here: the child must stay small.
"""
