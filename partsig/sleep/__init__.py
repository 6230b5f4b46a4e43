"""What only sleep staging has."""
