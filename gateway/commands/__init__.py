"""What the cloud may ask for: the verbs and their arguments (`verbs`), and the proof of who asks (`signed`)."""
