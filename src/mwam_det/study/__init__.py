"""Studies: arms, which are overrides of one recipe, trained over seeds in a grid and compared."""
