"""The `poslock` command: it parses, calls and renders; nothing else."""
