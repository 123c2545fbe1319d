"""The robustness report of any host: what a missing modality costs, as tables, figures and one page.

Only pictures of samples need Ultralytics.
"""
