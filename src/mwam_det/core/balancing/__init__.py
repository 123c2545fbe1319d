"""Published methods that balance the modalities of a training, one class each, behind one interface.

Each asks how well the model does with every modality alone. Here the answer comes from the model itself, seen with the
other modalities absent, so that none of them needs a head that can be split by modality.
"""
