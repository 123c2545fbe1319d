import pytest

from mwam_det import FRMBank


def test_the_first_value_is_taken_as_it_is_and_later_ones_are_averaged_by_omega():
    bank = FRMBank(omega=0.75)
    assert bank.update({"rgb": 8.0}) == {"rgb": 8.0}
    assert bank.update({"rgb": 4.0}) == {"rgb": 7.0}


def test_a_modality_that_is_not_named_keeps_its_value():
    bank = FRMBank()
    bank.update({"rgb": 8.0, "ir": 2.0})
    assert bank.update({"rgb": 4.0}) == {"rgb": 6.0, "ir": 2.0}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0])
def test_a_value_that_would_poison_the_bank_is_refused_and_nothing_is_taken_in(value):
    bank = FRMBank()
    bank.update({"rgb": 8.0, "ir": 2.0})
    with pytest.raises(ValueError, match="'ir'"):
        bank.update({"rgb": 1.0, "ir": value})
    assert bank.values == {"rgb": 8.0, "ir": 2.0}


def test_the_state_of_one_bank_continues_in_another():
    bank, other = FRMBank(), FRMBank()
    bank.update({"rgb": 8.0})
    other.load_state_dict(bank.state_dict())
    assert other.update({"rgb": 4.0}) == bank.update({"rgb": 4.0})


def test_reset_forgets():
    bank = FRMBank()
    bank.update({"rgb": 8.0})
    bank.reset()
    assert bank.update({"rgb": 4.0}) == {"rgb": 4.0}


@pytest.mark.parametrize("omega", [-0.1, 1.0, 2.0])
def test_an_omega_outside_its_range_is_refused(omega):
    with pytest.raises(ValueError, match="omega"):
        FRMBank(omega)
