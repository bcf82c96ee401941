"""Compare: settings -> runs -> store -> statistics. Nothing here draws; ``undying.report`` does."""
