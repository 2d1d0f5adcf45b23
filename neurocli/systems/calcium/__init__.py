"""The calcium room: contrastive embeddings of calcium imaging sessions."""
