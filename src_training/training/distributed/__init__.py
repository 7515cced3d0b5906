"""Training in several processes: `launch`, `process_group` and `sync_batch`."""
