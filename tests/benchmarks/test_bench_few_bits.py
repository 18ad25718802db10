from benchmarks import bench_few_bits as bench
from benchmarks.bench_conv2d import Layer
from benchmarks.runner import Settings


def test_every_form_is_timed_beside_the_binary_layer():
    layer = Layer(3, 1, 64, 64, 8)
    forms = bench.measure(layer, Settings(engines=(), repeats=2, min_time=0.001))
    assert {form.form: form.times for form in forms}[bench.BINARY] == 1.0
    assert len(forms) == 4
    assert all(form.op for form in forms)
