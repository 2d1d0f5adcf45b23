"""Architecture families of the fMRI room, one file each."""
