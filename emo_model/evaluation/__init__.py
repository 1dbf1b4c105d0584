"""What a model's videos are worth: instruments that were never trained with it, metrics on what they read, tables."""
