"""Finding inputs of a model: samples over its range, and inputs that drive values inside of it where they are wanted."""
