"""A recipe for a folder of pairs that nobody has described: what lies where is looked at, and written down.

`words` knows what people call things, `survey` lists what is there, `known` recognises published sets and exports,
`pairs` finds modalities, `labels` finds labels and class names, `pixels` looks at values, and `draft` puts it together.
"""
