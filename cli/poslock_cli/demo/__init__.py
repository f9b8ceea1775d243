"""``poslock demo``: a race of real processes, with a kill and a pause in it."""
