"""How a route may want its endpoints picked ★; ``pick`` says what each means."""

LEAST_WORK = "least_work"
PREFIX_AFFINITY = "prefix_affinity"
ROUND_ROBIN = "round_robin"
STRATEGIES = frozenset((LEAST_WORK, PREFIX_AFFINITY, ROUND_ROBIN))
