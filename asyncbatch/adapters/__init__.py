"""A `Loader` in other people's training loops: one module a framework, imported only when it is asked for."""
