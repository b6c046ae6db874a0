"""The daemon's local socket: `asking` is the technician's end, `serving` the daemon's.

Format: a Unix stream socket, mode 0660. One JSON object and a newline in (`{"verb": "status"}` and what else the verb
takes), one JSON object and a newline out; then the daemon closes. An object with `error` is a refusal, in a sentence.
The socket is in `$RUNTIME_DIRECTORY`, else in `/run/gateway`, else in a folder of the user's own; because daemon and
asker may see different environments, the daemon writes the path into the file `control` of the outbox directory.
"""
