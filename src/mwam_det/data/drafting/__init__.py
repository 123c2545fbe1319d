"""Draft a recipe for an undescribed folder of pairs.

`words` knows common names, `survey` lists files, `known` recognises published sets and exports, `pairs` finds
modalities, `labels` finds labels and class names, `pixels` examines values, and `draft` writes the recipe.
"""
