"""What ``partsig report`` computes and writes, one part of its page a file."""
