"""Images: readers, augmentations, the store of images."""
