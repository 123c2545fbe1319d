"""Stock model YAML → a model with one backbone per modality, made of stock layers."""
