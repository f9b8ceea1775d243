"""Proof: the shipped code under every interleaving."""
