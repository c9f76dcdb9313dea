"""A plugin that fails when it is imported."""

raise ImportError("libwreck.so.7: cannot open shared object file")
