"""Venues on this machine: HTTP servers over paper accounts, for real ccxt clients to talk to.

What all have alike is written once: HTTP, faults and limits of rate in `server`, what is refused in `rules`, accounts
of swaps in `swaps`, documented rows and codes in `samples`. A venue is its routes, its rows and its quirks.
"""
