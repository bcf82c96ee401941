"""Figures, the HTML page and the terminal's table, drawn from :class:`undying.lab.results.Results` and nothing else."""
