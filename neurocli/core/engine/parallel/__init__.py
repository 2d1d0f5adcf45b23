"""Several processes that share one run; this package alone (with `runtime`) knows of groups."""
