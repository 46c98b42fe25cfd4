import pytest

from scaling.errors import PlanError
from scaling.hardware import DEVICES, find_device


@pytest.mark.parametrize("name", sorted(DEVICES))
def test_every_row_is_plausible_and_has_a_source(name: str) -> None:
    device = DEVICES[name]
    assert device.name == name
    assert device.source
    assert 0 < device.assumed_mfu < 1
    # FLOPs per byte of memory traffic at which the device turns compute-bound: 1 to 1,000 on anything built so far.
    assert all(1 < rate / device.bandwidth_bytes_per_second < 1000 for rate in device.peak_flops.values())


def test_unknown_devices_and_precisions_list_what_there_is() -> None:
    with pytest.raises(PlanError) as error:
        find_device("h1000")
    assert "h100" in str(error.value)
    with pytest.raises(PlanError) as error:
        find_device("cpu").peak("float8")
    assert "float32" in str(error.value)


def test_mfu_goes_through_the_measured_widths_and_stays_flat_outside() -> None:
    cpu = find_device("cpu")
    for width, share in cpu.mfu_by_width.items():
        assert cpu.mfu(width) == pytest.approx(share)
    assert cpu.mfu(1) == pytest.approx(cpu.mfu_by_width[min(cpu.mfu_by_width)])
    assert cpu.mfu(10_000) == pytest.approx(cpu.mfu_by_width[max(cpu.mfu_by_width)])
    widths = [cpu.mfu(width) for width in range(16, 192)]
    assert widths == sorted(widths)
    assert cpu.mfu(64, low_rank=True) == pytest.approx(cpu.mfu(64) * cpu.low_rank_share)
