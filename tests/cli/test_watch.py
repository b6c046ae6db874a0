"""`gateway watch` where a terminal is there and the package for full-screen views is not, as on a Pi."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

WITHOUT_TEXTUAL = "import sys; sys.modules['textual'] = None; from gateway.cli import main; main()"


def test_watch_writes_a_line_a_second_and_says_why(tmp_path: Path) -> None:
    (tmp_path / "g.toml").write_text(
        '[site]\nstore = "1"\ngateway = "g"\n[broker]\nurl = "mqtt://127.0.0.1:1"\n[outbox]\ndirectory = "outbox"\n'
        '[[door]]\nid = "entrance"\nouter_pin = 17\ninner_pin = 27\n'
    )
    ours, theirs = pty.openpty()
    command = [sys.executable, "-c", WITHOUT_TEXTUAL, "watch", "--config", "g.toml", "--for", "1s"]
    ended = subprocess.run(command, cwd=tmp_path, stdin=theirs, stdout=theirs, stderr=theirs, timeout=30, check=False)
    os.close(theirs)
    shown = b""
    while True:
        try:
            got = os.read(ours, 65_536)
        except OSError:  # the other end is closed
            break
        if not got:
            break
        shown += got
    os.close(ours)
    text = shown.decode()
    assert "store-gateway[tui]" in text, text
    assert "Traceback" not in text, text
    assert ended.returncode in (0, 69), text  # 69: no beam can be read on this machine
