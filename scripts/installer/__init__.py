"""The installer: `place` knows where things lie; `installing`, `uninstalling` and `bundling` are the three scripts."""
