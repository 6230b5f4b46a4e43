"""The records of the modalities, as a process that is started is handed them."""

import pickle

import pytest

from partsig.modalities import registry


@pytest.mark.parametrize("name", registry.MODALITIES)
def test_a_modality_can_be_handed_to_another_process(name):
    modality = registry.get(name)
    again = pickle.loads(pickle.dumps(modality))
    assert again == modality
    assert (again.name, again.rank) == (name, len(modality.axes))
