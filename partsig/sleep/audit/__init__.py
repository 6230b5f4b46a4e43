"""What is wrong with recordings: measured, and judged."""
