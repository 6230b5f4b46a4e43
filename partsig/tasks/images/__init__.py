"""What the verbs do on images, where it is not what they do on signals."""
