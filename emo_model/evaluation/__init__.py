"""What a model's videos are worth: instruments that read a drawn head's pixels, metrics on what they read, tables and figures."""
