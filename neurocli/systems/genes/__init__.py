"""Gene alignment: brain latents and gene embeddings in one space, judged against the optimum."""
