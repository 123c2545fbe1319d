"""The built-in arms, and the default number of seeds."""

BUILT_IN = {
    "baseline": "neither MWAM nor incomplete views nor balancing",
    "dropout": "modality dropout of the input, the recipe's p or 0.5, uniform",
    "dropout-mwam": "modality dropout of the input that follows MWAM's weights, which scale nothing",
    "views": "every combination of modalities in each step",
    "mwam": "MWAM with the recipe's parameters or the paper's",
}
"""Built-in arms. Joined by "+", they are applied in this order; all start from a recipe without any of them."""

SEEDS = 3
"""Default number of seeds."""
