"""The vocabulary of training, each entry for ONE network: likelihoods, optimizers, schedules.

To add a likelihood or an optimizer: one file in its folder, and one line in that folder's table.
"""
