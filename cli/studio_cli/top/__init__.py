"""``studio top``: the fleet as it is now, on a full screen.

| module | what it does |
|---|---|
| ``fleet`` | the picture that the coordinator's stream of changes adds up to; pure |
| ``pages`` | tables of it: hosts, GPUs, replicas, models, each in an order; pure |
| ``keys`` | what a key does to what is shown; pure |
| ``screen`` | the terminal: keys in, pictures out |
"""
