"""The rehearsal of a close at the configured venue: ``poslock rehearse``."""
