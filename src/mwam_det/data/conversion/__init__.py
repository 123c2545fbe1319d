"""Convert a published dataset to the folders that training reads; what all formats share.

A format (a module of `mwam_det.data.formats`) lists the pairs of a source; here they are checked, written and counted.
The source is never changed. `model` defines the terms, `offers` the formats and options of the command line,
`untrusted` reads annotations, `images` and `labels` bring both to the converted set, `write` runs the conversion,
`record` documents it in the folder, and `doubts` lists reasons to look at the result before training.

Sources are untrusted. Names in an annotation may not leave the source (`inside`), numbers must be places in an image
(`number`), and only files that decode as images are taken over. Links in the source are followed wherever they lead,
because large sets are often put together from links to several disks.

Images are taken as training reads them, that is rotated by their EXIF tag, and labels are for these pixels.
"""
