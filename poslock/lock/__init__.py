"""The lock: who may act on a position. Knows nothing of exchanges, orders or ledgers."""
