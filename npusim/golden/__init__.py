"""Golden vectors: inputs and exact results that catch a wrong device, and what a device's results say."""
