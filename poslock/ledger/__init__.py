"""The ledger: what is tracked, how far each close got, what was booked. Knows nothing of locks but their tokens."""
