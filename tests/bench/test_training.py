from undying.bench.settings import TrainingSettings
from undying.bench.training import measure_training


def test_a_step_of_every_form_in_the_same_rounds():
    settings = TrainingSettings(
        models=("mlp",), batch=2, side=3, threads=(1,), seconds=1e-3, forms=("SUGAR bsilu", "BAReLU")
    )
    (case,) = measure_training(settings, lambda _: None)
    assert list(case.timings.samples) == ["nn.ReLU inplace", "SUGAR bsilu", "BAReLU"]
    assert case.timings.ratio("nn.ReLU inplace", "nn.ReLU inplace").value == 1
    assert case.to_dict()["forms"]["BAReLU"]["ratio"]["rounds"] >= 6
