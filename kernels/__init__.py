"""Pure functions over arrays: the arithmetic of npusim, imported as ``npusim.kernels``."""
