"""Networks of the tumour room, and their builders."""
