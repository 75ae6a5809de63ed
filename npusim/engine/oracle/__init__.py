"""The whole model as C99: an oracle that does not depend on NumPy, for a firmware's tests and for the device itself."""

from npusim.engine.oracle.runner import CompiledOracle, compile_oracle, find_compiler
from npusim.engine.oracle.source import OracleSource, oracle_source

__all__ = ["CompiledOracle", "OracleSource", "compile_oracle", "find_compiler", "oracle_source"]
