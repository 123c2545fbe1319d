"""From a dataset as it was published to the folders that training reads; what all formats share.

A format (one module of `mwam_det.data.formats` each) lists the samples of a source; here they are checked, written and
counted. The source is never changed. `model` says what a conversion is, `offers` what the command line offers of each
format, `untrusted` reads what annotations state, `images` and `labels` bring both to the converted set, `write` runs it
all, `record` says in the folder what was done, and `doubts` why nobody should train on it without a look.

Sources come from strangers. Names that an annotation gives may not leave the source (`inside`), numbers must be places
in an image (`number`), and only files that decode as images are taken over. Links in the source are followed wherever
they lead, because people put large sets together from links to several disks.

Images are taken as training reads them, that is turned as their EXIF tag says, and labels are for these pixels.
"""
