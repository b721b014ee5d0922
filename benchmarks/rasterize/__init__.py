"""What the lazy transcript map of a slide costs."""
