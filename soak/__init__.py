"""``scripts/soak``: many bots and positions, an exchange that misbehaves, kills and stops; then the books are read."""
