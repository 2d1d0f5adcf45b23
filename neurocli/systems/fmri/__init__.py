"""The fMRI room: raw series to standard files, FMamba, its tasks and figures."""
