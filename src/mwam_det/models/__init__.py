"""Stock model YAML → a model with one backbone a modality, made of stock layers."""
