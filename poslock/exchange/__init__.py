"""Exchanges: what poslock asks of a venue, and the venues it can ask. Knows nothing of locks or ledgers."""
