"""What is done to a network: convert it, take it back."""
