"""Units and their life: which are silent, dead or dormant."""
