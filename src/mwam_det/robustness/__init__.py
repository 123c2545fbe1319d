"""The robustness report, for any host: what a missing modality costs, as tables, figures and one page.

Only the figure of samples needs Ultralytics.
"""
