"""The daemon: the service around the engine, its answers, its timetable, and the configuration that the cloud sends."""
