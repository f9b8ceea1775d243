"""The guards: what a bot sees, and what they do with positions, written once for threads and tasks."""
