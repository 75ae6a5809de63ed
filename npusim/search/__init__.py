"""Finding inputs of a model: samples over its range, and inputs that make a layer do something."""
