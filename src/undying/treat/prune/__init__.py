"""Cut units out of a network that say nothing, or always the same."""
