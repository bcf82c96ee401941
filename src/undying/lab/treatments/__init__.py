"""What is done to a network so that its units stay useful: an activation, and parts that act on its training."""

from undying.lab.treatments.grammar import build_treatment, own_sources
from undying.lab.treatments.treatment import Applied, Treatment

__all__ = ["Applied", "Treatment", "build_treatment", "own_sources"]
