"""The training loop and what it stands on. Knows neither the data nor the method."""
