"""A census as a data frame and as a figure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from undying._base.extras import need

if TYPE_CHECKING:
    from torch import Tensor

MANY = 50
"""Most sites that are shown at once, where nobody asked for all of them."""

STATES = ("silent", "dead", "dormant", "saturated", "unused")
"""What may be said of a unit, by the fields of a site."""

Site = Any
"""That of ``undying.census.site``, which has these views as its methods."""


def worst_of(sites: Sequence[Site], most: int = MANY) -> list[Site]:
    """Of many sites those with the largest shares of dead units, then of silent ones; in the order of the calls."""
    if len(sites) <= most:
        return list(sites)
    order = sorted(range(len(sites)), key=lambda place: [-_share(sites[place], state) for state in ("dead", "silent")])
    return [sites[place] for place in sorted(order[:most])]


def _share(site: Site, state: str) -> float:
    units = getattr(site, state)
    return 0.0 if units is None else float(units.double().mean())


def frame_of_sites(sites: Sequence[Site]) -> Any:
    """A row a site; what is not said of one is NA."""
    pandas = need("pandas", None, "to_pandas")
    rows = [
        {
            "site": site.name,
            "layer": site.layer,
            "line": site.line,
            "kind": site.kind,
            "units": site.units,
            "samples": site.samples,
            "values": site.values,
            **{state: None if (units := getattr(site, state)) is None else int(units.sum()) for state in STATES},
            "firing_rate": float(site.firing_rate.mean()),
        }
        for site in sites
    ]
    whole = dict.fromkeys(("units", "samples", "values", *STATES), "Int64")
    return pandas.DataFrame(rows).astype(whole).set_index("site")


def frame_of_units(site: Site) -> Any:
    """A row a unit."""
    pandas = need("pandas", None, "to_pandas")
    columns = ("fired", "firing_rate", "peak", "mean_abs", "zero", "score", "nonfinite", *STATES)
    values = {name: values for name in columns if (values := getattr(site, name)) is not None}
    return pandas.DataFrame({name: _listed(values[name]) for name in values}).rename_axis("unit")


def _listed(values: Tensor) -> list[Any]:
    found: list[Any] = values.tolist()
    return found


def plot_sites(sites: Sequence[Site], ax: Any = None) -> Any:
    """A bar a site, in the order of the calls: the share of silent units, and of dead ones in it. Of many the worst."""
    shown = worst_of(sites)
    ax = _axes(ax, height=1.2 + 0.28 * len(shown))
    for state, width, colour in (("silent", 0.8, "0.75"), ("dead", 0.45, "tab:red")):
        ax.barh(range(len(shown)), [100 * _share(site, state) for site in shown], width, color=colour, label=state)
    ax.set_yticks(range(len(shown)), [site.label for site in shown])
    ax.invert_yaxis()
    ax.set_xlim(0, 100)
    ax.set_xlabel("% of the site's units")
    ax.set_title(
        "Silent and dead units by site"
        + (f": the worst {len(shown)} of {len(sites)}" if len(shown) < len(sites) else "")
    )
    ax.legend()
    return ax


def plot_units(site: Site, ax: Any = None) -> Any:
    """How often each unit fires, the units in order of that."""
    ax = _axes(ax, height=3.0)
    shares = 100 * site.firing_rate.sort().values.numpy()
    ax.plot(shares, drawstyle="steps-mid")
    ax.set_ylim(0, max(1.05 * float(shares.max()), 1))  # of a silent site too, whose axis would go below 0
    ax.set_xlabel("units, in order")
    ax.set_ylabel("% of values above 0")
    ax.set_title(f"How often the units of {site.label} fire")
    return ax


def _axes(ax: Any, height: float) -> Any:
    if ax is not None:
        return ax
    figure = need("matplotlib.pyplot", "lab", "plot").subplots(figsize=(6.4, height), layout="constrained")
    return figure[1]
