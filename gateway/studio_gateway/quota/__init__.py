"""Limits of keys and tenants that no burst, crash or second gateway gets past.

========== ==================================================================================================
claims     what a request may use at most, of which bounds
allowance  what this process may still spend of one bound
purse      all allowances: reserve before a request, settle after it, say what has to be asked for
leasing    the conversation with the coordinator, and the requests that wait for it
========== ==================================================================================================

A request reserves the most that it can use and gives back what it did not: a bound is never passed, not by one request. The
coordinator leases parts of each bound to each gateway process (``LeaseQuota``), so that most requests touch a few integers and
nothing else; a key without limits touches none.
"""
