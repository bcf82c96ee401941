"""undying: find dead ReLU units, bring them back, prove whether it helped, ship plain ReLU.

Everything public is named here. The core needs torch alone; the ``undying`` command needs the extra ``lab``.
"""

from typing import TYPE_CHECKING, Any

from undying._version import __version__
from undying.activations.barelu import BAReLU, barelu
from undying.activations.plain import BSiLU, NeLU, bsilu, nelu
from undying.activations.register import register_activation
from undying.activations.schedule import StrengthSchedule
from undying.activations.sugar import SUGAR, sugar
from undying.census.census import census
from undying.census.examples import Examples, SiteExamples
from undying.census.indexed import Indexed
from undying.census.plasticity import Plasticity, PlasticSite, plasticity
from undying.census.record import Record
from undying.census.results import Census, Changes
from undying.census.since_fired import SinceFired
from undying.census.sinks import JSONL, Memory
from undying.census.site import Site
from undying.census.watch import Watch, watch
from undying.certify.box import Box
from undying.certify.certificate import Certificate, CertifiedSite
from undying.certify.interpreter import certify
from undying.integrations import register
from undying.ops.lean import lean
from undying.surrogates import SURROGATES, Surrogate, register_surrogate, surrogate, unit_scaled
from undying.treat.convert import audit, convert_
from undying.treat.policies.continual_backprop import ContinualBackprop
from undying.treat.policies.dead_latents import DeadLatents
from undying.treat.policies.gradient_dormancy import GradientDormancy
from undying.treat.policies.recycler import Recycler
from undying.treat.policies.redo import ReDo
from undying.treat.policies.self_normalized_resets import SelfNormalizedResets
from undying.treat.prune.prune import prune_
from undying.treat.prune.recipe import apply_recipe_
from undying.treat.prune.report import PrunedSite, PruneReport
from undying.treat.recycle import recycle_
from undying.treat.recycled import RecycledSite, RecycleReport
from undying.treat.report import ConversionReport, RevertReport
from undying.treat.revert import revert_

__all__ = [
    "JSONL",
    "SUGAR",
    "SURROGATES",
    "BAReLU",
    "BSiLU",
    "Box",
    "Census",
    "Certificate",
    "CertifiedSite",
    "Changes",
    "ContinualBackprop",
    "ConversionReport",
    "DeadLatents",
    "Examples",
    "GradientDormancy",
    "Indexed",
    "Memory",
    "NeLU",
    "PlasticSite",
    "Plasticity",
    "PruneReport",
    "PrunedSite",
    "ReDo",
    "Record",
    "RecycleReport",
    "RecycledSite",
    "Recycler",
    "RevertReport",
    "SelfNormalizedResets",
    "SinceFired",
    "Site",
    "SiteExamples",
    "StrengthSchedule",
    "Surrogate",
    "Watch",
    "__version__",
    "apply_recipe_",
    "audit",
    "barelu",
    "bsilu",
    "census",
    "certify",
    "convert_",
    "lean",
    "nelu",
    "plasticity",
    "prune_",
    "recycle_",
    "register",
    "register_activation",
    "register_surrogate",
    "revert_",
    "sugar",
    "surrogate",
    "unit_scaled",
    "watch",
]


if TYPE_CHECKING:
    from undying.report.watched import Page as Page


def __getattr__(name: str) -> Any:
    """``undying.Page`` needs the extra ``lab``, so it is imported by who asks for it, and is not in ``__all__``."""
    if name == "Page":
        from undying._base.extras import need

        return need("undying.report.watched", "lab", "undying.Page").Page
    raise AttributeError(f"module 'undying' has no attribute {name!r}")
