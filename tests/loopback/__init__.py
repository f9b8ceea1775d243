"""Venues on this machine: HTTP servers over paper accounts, for real ccxt clients to talk to."""
