"""The arms that need no file, and how many seeds a study has."""

BUILT_IN = {
    "baseline": "neither MWAM nor incomplete views nor balancing",
    "dropout": "modality dropout of the input, the recipe's p or 0.5, uniform",
    "dropout-mwam": "modality dropout of the input that follows MWAM's weights, which scale nothing",
    "views": "every combination of modalities in each step",
    "mwam": "MWAM with the recipe's parameters or the paper's",
}
"""Arms that need no file. Joined by "+", they are applied in this order; all start from a recipe without any of it."""

SEEDS = 3
"""Number of seeds, if neither the user nor the study says one."""
