"""The pretrained method: a net trained on randomised tissue says which nucleus, if any, owns each place."""
