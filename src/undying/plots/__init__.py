"""Every figure, drawn from numbers and names that are given."""
