"""Settings of a run that ends in a second."""

SMALL = [
    "model.embed_dim=32",
    "model.depth=1",
    "model.patch_size=8,8,8,2",
    "data.sequence_length=8",
    "data.batch_size=4",
    "run.threads=1",
]
