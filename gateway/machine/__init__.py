"""The machine under the gateway: its clocks, disks and files, users and limits, network, logs.

Law: only here is a clock read, only here the outbox's files are written. Nothing here knows what a gateway is for.
"""
