"""Sessions and the execution of programs: planning, the reference engine, the fast one, and other runtimes."""
