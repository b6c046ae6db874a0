"""The drivers of a scanner's radio, by bluepy or bleak, and the files with the keys of its tags."""
