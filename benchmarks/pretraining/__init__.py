"""How the net of the pretrained method was made: randomised tissue, training, and the record of both."""
