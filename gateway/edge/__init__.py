"""Does: HTTP, the journal's database, keys, time, metrics."""
