"""What it costs: load and comparisons. Figures, never tests."""
