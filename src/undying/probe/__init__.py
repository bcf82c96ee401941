"""What a trained network is counted on."""
