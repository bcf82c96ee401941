"""BAReLU's wall-clock overhead over ReLU: alone, forward and with the backward pass, and in a training step."""

from __future__ import annotations

from undying.bench.settings import ActivationSettings, TrainingSettings
from undying.papers.overhead import Overhead, OverheadScale
from undying.papers.tables.barelu_cifar import SOURCE

OURS = ("BAReLU", "BAReLU inplace", "BAReLU eps=1e-4")
FORMS = ("literal BAReLU", *OURS)
MEASURED = ("nn.ReLU", "nn.ReLU inplace", "nn.LeakyReLU", *FORMS)

_CPU = "Any GPU: the source does not name its hardware, and the bench times CPUs."


def _alone(sizes: tuple[float, ...], dtypes: tuple[str, ...], seconds: float) -> ActivationSettings:
    return ActivationSettings(sizes=sizes, dtypes=dtypes, seconds=seconds, forms=MEASURED)


TABLE = Overhead(
    name="barelu-overhead",
    says="less than 1.11 % wall-clock overhead over ReLU, by a branchless torch.where",
    source=SOURCE,
    limit=1.0111,
    forms=FORMS,
    scales={
        "full": OverheadScale(
            _alone((1e3, 1e4, 1e5, 1e6, 1e7), ("float32", "bfloat16"), 120.0),
            TrainingSettings(forms=MEASURED, seconds=1200.0),
            (_CPU,),
        ),
        "small": OverheadScale(
            _alone((1e5, 1e6, 1e7), ("float32",), 60.0),
            TrainingSettings(forms=MEASURED, seconds=400.0),
            (
                _CPU,
                "Types other than float32, and tensors below 1e5 elements, where the cost of a call decides.",
                "Other networks: the training step is resnet18's on 32 images of 64 x 64.",
            ),
        ),
        "smoke": OverheadScale(
            ActivationSettings(sizes=(1000,), dtypes=("float32",), threads=(1,), seconds=0.01, forms=MEASURED),
            TrainingSettings(models=("mlp",), batch=2, side=4, threads=(1,), seconds=0.01, forms=MEASURED),
            ("Anything: it times a thousand elements for some milliseconds, to see that the table runs.",),
            answers=False,
        ),
    },
    chosen=(
        "what is timed: an activation alone, forward and forward + backward, and a training step of torchvision's resnet18 "
        "with SGD",
        "the literal form is the formula with torch.where, torch.sqrt, torch.clamp and a square, each a pass over memory",
        "ours with eps = 0 is torch's leaky_relu at slope 0.01, bit for bit; with eps > 0 inplace changes nothing, so it is "
        "not listed twice",
        "a form that works in place is held against nn.ReLU(inplace=True), the others against nn.ReLU",
        "sizes, types and numbers of threads",
    ),
)
