"""The same core in other hosts: classifiers and RGB-D segmentation, and a small loop to train and evaluate them."""
