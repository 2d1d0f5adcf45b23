"""Training and judging models: one loop, one seam, durable state."""
