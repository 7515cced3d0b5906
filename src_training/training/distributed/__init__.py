"""Several processes that train as one: `launch`, `process_group`, `whole_batch`."""
