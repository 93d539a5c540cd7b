"""What the fleet measures, by the second: kept in memory, rolled up into the database, shown live and exported.

    agents ──1 Hz──► rings (15 min, 1 s) ──► rollups (10 s, 1 min) ──► recorder ──COPY──► PostgreSQL
                       │                                                (the leader alone)
                       ├──► live: WatchTelemetry          newest figures ──► exporters: Prometheus, OTLP
                       └──► history: GetHistory ◄── rings, then the database

| module | what it knows |
|---|---|
| ``fields`` | which figures are kept, in which steps: two bytes each |
| ``layout`` | the order of a host's figures: its own, its GPUs', its replicas' |
| ``block`` | one minute of one host; a closed one is compressed |
| ``ring`` | the blocks of one host, and the rollups that fall out when time goes on |
| ``rings`` | all hosts, and the queue of rollups |
| ``recorder`` | the one writer of rollups: bounded, and never waited for |
| ``history`` | series over time, from wherever they are |
| ``samples`` | the figures under the names that exporters use |
| ``prometheus``, ``otlp`` | the exporters |

The reader of a host's stream only appends to a ring. What is unknown is absent everywhere, and never zero.
"""
