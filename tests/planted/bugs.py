"""The list of planted bugs: what is changed where, and which everyday tests must catch it.

They are chosen by kind (what is promised and what would break it), not by what a test happens to see. `old` stands once
in its file.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Bug:
    """One bug: `old` becomes `new` in `file`; `tests` (of them `only`, as pytest's -k) must fail."""

    room: str
    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]
    only: str = ""


DISK = ("tests/shipped/test_disk_calls.py",)
KEPT = ("tests/shipped/test_kept_files.py",)
HUNG = ("tests/outbox/test_hung_card.py",)
LIMITS = ("tests/shipped/test_limits.py",)
MODES = ("tests/shipped/test_modes.py",)
REAL = ("tests/outbox/test_real_files.py",)
OUTBOX = ("tests/outbox/test_outbox.py", "tests/outbox/test_disasters.py", "tests/outbox/test_power_cuts.py")
UPLINK = ("tests/uplink/test_limits.py",)
POLICY = ("tests/uplink/test_policy.py",)
REFUSALS = ("tests/uplink/test_refusals.py",)
SCRIPTED = ("tests/uplink/test_scripted.py",)
ENGINE = ("tests/test_engine.py",)
PRIVACY = ("tests/test_privacy.py",)
INBOUND = ("tests/shipped/test_steps.py",)
CONTROL = ("tests/cli/test_control.py",)
REDACTION = ("tests/shipped/test_bundle.py", "tests/cli/test_redaction.py", "tests/cli/test_support_bundle.py")
RESENDS = ("tests/test_commands.py",)
SIGNED = ("tests/test_signed.py",)
CLOUD_KEYS = ("tests/test_cloud_keys.py",)
CONSUMER = ("tests/test_consumer.py",)
INSTALLER = ("tests/test_install.py", "tests/test_trust.py")

BUGS: tuple[Bug, ...] = (
    Bug(
        "outbox",
        "a disk that hangs is not told",
        "gateway/outbox/upkeep.py",
        "        if not self.is_hung:\n            return self.committer.trouble\n",
        "        if True:\n            return self.committer.trouble\n",
        HUNG,
    ),
    Bug(
        "outbox",
        "an answer of the disk is not heard as a sign of life",
        "gateway/outbox/upkeep.py",
        "                self._answered_ns = now.boot_ns\n",
        "",
        HUNG,
    ),
    Bug(
        "outbox",
        "copies for the technician pile up",
        "gateway/outbox/outbox.py",
        "if self._upkeep.jobs_open < JOBS_WAITING_MAX:",
        "if True:",
        HUNG,
    ),
    Bug(
        "process",
        "the watchdog does not know the writer",
        "gateway/process.py",
        "            hung.append(WRITER)\n",
        "",
        ("tests/test_process.py",),
        "card",
    ),
    Bug(
        "machine",
        "an overlay's upper layer is not looked at",
        "gateway/mounts.py",
        "        if beneath.kind in MEMORY:\n",
        "        if False:\n",
        ("tests/test_mounts.py",),
        "power_cut",
    ),
    Bug("disk", "a sync does not sync", "gateway/disk.py", "        os.fdatasync(fd)\n", "", DISK),
    Bug("disk", "a folder is not synced", "gateway/disk.py", "            os.fsync(fd)\n", "            pass\n", DISK),
    Bug(
        "disk",
        "a first failed sync is believed",
        "gateway/disk.py",
        "        os.fdatasync(fd)\n",
        ("        try:\n            os.fdatasync(fd)\n        except OSError:\n            os.fdatasync(fd)\n"),
        DISK,
    ),
    Bug(
        "disk",
        "a failed sync is no error",
        "gateway/disk.py",
        "        os.fdatasync(fd)\n",
        ("        try:\n            os.fdatasync(fd)\n        except OSError:\n            pass\n"),
        DISK,
    ),
    Bug(
        "disk",
        "a read-only remount is no error",
        "gateway/disk.py",
        "raise OSError(errno.EROFS, os.strerror(errno.EROFS))",
        "pass",
        REAL,
    ),
    Bug("disk", "files for everybody", "gateway/owner.py", "FILE_MODE = 0o640", "FILE_MODE = 0o644", DISK),
    Bug("disk", "folders for everybody", "gateway/owner.py", "DIRECTORY_MODE = 0o750", "DIRECTORY_MODE = 0o777", MODES),
    Bug("disk", "the umask decides", "gateway/owner.py", "    os.fchmod(fd, mode)\n", "", MODES),
    Bug("disk", "only a part is written", "gateway/disk.py", "        while rest:\n", "        if rest:\n", DISK),
    Bug("disk", "a cache is not dropped", "gateway/disk.py", "POSIX_FADV_DONTNEED", "POSIX_FADV_NORMAL", DISK),
    Bug("disk", "a file is made over another", "gateway/disk.py", "os.O_CREAT | os.O_EXCL", "os.O_CREAT", DISK),
    Bug("disk", "a lock that is shared", "gateway/disk.py", "LOCK_EX | fcntl.LOCK_NB", "LOCK_SH | fcntl.LOCK_NB", DISK),
    Bug(
        "outbox",
        "a descriptor too few is damage",
        "gateway/outbox/reading.py",
        "if error.errno not in _OF_THE_FILE:",
        "if False:",
        DISK,
    ),
    Bug(
        "outbox",
        "a new file's name is not synced",
        "gateway/outbox/jobs.py",
        ("                disk.sync_directory(os.path.dirname(self.create.path))\n        except"),
        "                pass\n        except",
        DISK,
    ),
    Bug(
        "outbox",
        "a saved state is not synced",
        "gateway/outbox/jobs.py",
        "            if self.synced:\n                disk.sync(fd)\n",
        "",
        DISK,
    ),
    Bug(
        "outbox",
        "what was read is not confirmed",
        "gateway/outbox/jobs.py",
        "        Confirm(self.tails).run(disk)\n",
        "",
        DISK,
    ),
    Bug(
        "outbox",
        "removed names are not synced",
        "gateway/outbox/jobs.py",
        (
            "        for directory in sorted({os.path.dirname(path) for path in (*self.paths, "
            "*self.aside)}):\n"
            "            disk.sync_directory(directory)\n"
        ),
        "",
        DISK,
    ),
    Bug(
        "outbox",
        "expiry takes all at once",
        "gateway/outbox/retention.py",
        "EXPIRE_EVERY_NS = 60 * NS_PER_S",
        "EXPIRE_EVERY_NS = 0 * NS_PER_S",
        DISK,
    ),
    Bug(
        "outbox",
        "expiry by a clock that nobody set",
        "gateway/outbox/retention.py",
        'if now.clock != "synced" or (',
        "if (",
        OUTBOX,
    ),
    Bug(
        "outbox",
        "a floor is not kept",
        "gateway/outbox/retention.py",
        "                if left < floor_bytes:\n",
        "                if False:\n",
        DISK,
    ),
    Bug(
        "outbox",
        "the grace is not kept",
        "gateway/outbox/retention.py",
        "elif now.boot_ns - segment.settled_ns >= self._keep_ns:",
        "else:",
        OUTBOX,
    ),
    Bug(
        "outbox",
        "the epoch does not rise",
        "gateway/outbox/recovery.py",
        "found.epoch = 1 + max(",
        "found.epoch = 0 + max(",
        OUTBOX,
    ),
    Bug(
        "outbox",
        "a card put back or copied draws the epoch that is next",
        "gateway/outbox/recovery.py",
        "return epoch + min(leap, (EPOCH_MAX - epoch) >> 20)",
        "return epoch",
        OUTBOX,
    ),
    Bug(
        "outbox",
        "acknowledged before it is durable",
        "gateway/outbox/outbox.py",
        "min(last, log.durable)",
        "last",
        DISK,
    ),
    Bug(
        "outbox",
        "the checksum is not looked at",
        "gateway/outbox/state.py",
        "INTERVALS_MAX = 64",
        "INTERVALS_MAX = 0",
        OUTBOX,
    ),
    Bug(
        "outbox",
        "a synced save goes over the synced one",
        "gateway/outbox/saving.py",
        "return 1 - self.synced_slot, text",
        "return self.synced_slot, text",
        OUTBOX,
    ),
    Bug(
        "outbox",
        "a repair does not keep the original",
        "gateway/outbox/repair.py",
        ("            _copy(disk, path, _beside(originals, directory, path))\n            copied.append(path)\n"),
        "            copied.append(path)\n",
        DISK,
    ),
    Bug(
        "outbox",
        "a repaired file is not synced",
        "gateway/outbox/repair.py",
        "        disk.write_at(target, FOOTER, offset)\n        disk.sync(target)\n",
        "        disk.write_at(target, FOOTER, offset)\n",
        DISK,
    ),
    Bug(
        "uplink",
        "a batch of a thousand",
        "gateway/uplink/lanes.py",
        "BATCH_EVENTS_MAX = 100",
        "BATCH_EVENTS_MAX = 1000",
        LIMITS,
    ),
    Bug(
        "uplink",
        "a batch of 64 KiB",
        "gateway/uplink/lanes.py",
        "BATCH_BYTES_MAX = 32 * 1024",
        "BATCH_BYTES_MAX = 64 * 1024",
        LIMITS,
    ),
    Bug("uplink", "the first wait is a minute", "gateway/uplink/backoff.py", "BASE_S = 2.0", "BASE_S = 60.0", LIMITS),
    Bug(
        "uplink",
        "no jitter",
        "gateway/uplink/backoff.py",
        "self._random.uniform(0, min(self._cap_s, longest_s))",
        "min(self._cap_s, longest_s)",
        UPLINK,
    ),
    Bug(
        "uplink",
        "a flapping link counts as good",
        "gateway/uplink/backoff.py",
        "up_ns >= STABLE_S * NS_PER_S and acknowledged > 0",
        "acknowledged > 0",
        LIMITS,
    ),
    Bug(
        "uplink",
        "an acknowledgement is waited for for ten minutes",
        "gateway/uplink/policy.py",
        "acknowledge_within_s: float = 10.0",
        "acknowledge_within_s: float = 600.0",
        LIMITS,
    ),
    Bug(
        "uplink",
        "Receive Maximum is not heard",
        "gateway/uplink/traffic.py",
        "signal.receive_maximum or 65_535",
        "65_535",
        LIMITS,
    ),
    Bug(
        "uplink",
        "a refused event counts as delivered",
        "gateway/uplink/conversation.py",
        "        if reason_code >= 0x80:\n",
        "        if reason_code >= 0x100:\n",
        SCRIPTED,
    ),
    Bug(
        "uplink",
        "the state of a stop is not told",
        "gateway/uplink/presence.py",
        'return self._parcel("online", now)',
        "return None",
        POLICY,
    ),
    Bug(
        "mqtt",
        "TCP_USER_TIMEOUT is not set",
        "gateway/mqtt/dial.py",
        ("        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(times.user_timeout_s * 1000))\n"),
        "",
        LIMITS,
    ),
    Bug(
        "mqtt",
        "no TCP keepalive",
        "gateway/mqtt/dial.py",
        "        plain.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)\n",
        "",
        LIMITS,
    ),
    Bug(
        "mqtt",
        "an idle link is noticed after two minutes",
        "gateway/mqtt/dial.py",
        "ping_s: int = 6",
        "ping_s: int = 60",
        LIMITS,
    ),
    Bug("mqtt", "TLS 1.0", "gateway/mqtt/dial.py", "ssl.TLSVersion.TLSv1_2", "ssl.TLSVersion.TLSv1", LIMITS),
    Bug(
        "mqtt",
        "certificates are not looked at",
        "gateway/mqtt/dial.py",
        "context = BoundedContext(ssl.PROTOCOL_TLS_CLIENT)\n",
        (
            "context = BoundedContext(ssl.PROTOCOL_TLS_CLIENT)\n"
            "    context.check_hostname = False\n"
            "    context.verify_mode = ssl.CERT_NONE\n"
        ),
        LIMITS,
    ),
    Bug(
        "mqtt",
        "the largest packet is not told",
        "gateway/mqtt/properties.py",
        "        properties.MaximumPacketSize = inbound_bytes_max\n",
        "",
        LIMITS,
    ),
    Bug(
        "uplink",
        "the record of a loss is set aside",
        "gateway/uplink/verdicts.py",
        "if self.hold is not None or is_notice(suspect.parcel.entries[0]):",
        "if self.hold is not None:",
        REFUSALS,
    ),
    Bug(
        "uplink",
        "the first refusal sets a message aside",
        "gateway/uplink/verdicts.py",
        "CHARGES_MAX = 2",
        "CHARGES_MAX = 1",
        REFUSALS,
    ),
    Bug(
        "uplink",
        "sending is never held",
        "gateway/uplink/verdicts.py",
        "self._on_end >= HELD_AFTER",
        "self._on_end < 0",
        REFUSALS,
    ),
    Bug(
        "mqtt",
        "codes that the library lacks end the connection",
        "gateway/mqtt/client.py",
        "    codes.complete()\n",
        "",
        REFUSALS,
    ),
    Bug(
        "mqtt",
        "retained commands are asked for",
        "gateway/mqtt/heard.py",
        "retainAsPublished=True, retainHandling=0 if order.retained else 2",
        "retainAsPublished=False, retainHandling=0",
        LIMITS,
    ),
    Bug(
        "mqtt",
        "a proxy's own words in the reason",
        "gateway/mqtt/proxy.py",
        "f\"{code} {PHRASES.get(code, '')}\".rstrip()",
        "words[-1].decode()",
        LIMITS,
    ),
    Bug(
        "mqtt",
        "a proxy's password in the reason",
        "gateway/mqtt/proxy.py",
        "        raise ProxyRefused(_LOGIN)\n    if not 200",
        (
            '        raise ProxyRefused(Cause("proxy.login", f"{username}:{password} is not '
            'right", _ADVICE))\n'
            "    if not 200"
        ),
        LIMITS,
    ),
    Bug(
        "engine",
        "a clock step of a minute is none",
        "gateway/engine.py",
        "CLOCK_STEP_NS = NS_PER_S",
        "CLOCK_STEP_NS = 60 * NS_PER_S",
        LIMITS,
    ),
    Bug(
        "engine",
        "what waits has no bound",
        "gateway/engine.py",
        "READINGS_MAX = 20_000",
        "READINGS_MAX = 20_000_000",
        LIMITS,
    ),
    Bug(
        "engine",
        "readings are lost without a word",
        "gateway/engine.py",
        '            self._discard(item.sensor, "inbox_full")\n',
        "",
        ENGINE,
    ),
    Bug(
        "engine",
        "a source that can wait does not wait for the disk",
        "gateway/engine.py",
        "self._inbox.qsize() < READINGS_PATIENT_MAX and self.outbox.has_room()",
        "self._inbox.qsize() < READINGS_PATIENT_MAX",
        ENGINE,
    ),
    Bug(
        "engine",
        "in a burst the outbox gets no turn",
        "gateway/engine.py",
        "            if not self.outbox.has_room():\n                self.outbox.step(now)\n",
        "",
        ENGINE,
    ),
    Bug(
        "outbox",
        "what is shed is named with what was lost before",
        "gateway/outbox/stream.py",
        "if runs and runs[-1][0] == sequence + 1:",
        "if runs:",
        OUTBOX,
        "overflows_memory_again",
    ),
    Bug(
        "privacy",
        "the key of a past day stays",
        "gateway/privacy.py",
        ("        if period.ends_others and not self._stored(period):\n            self._destroy_file()\n"),
        "",
        PRIVACY,
    ),
    Bug(
        "privacy",
        "the key is only unlinked",
        "gateway/privacy.py",
        "            os.write(descriptor, bytes(os.fstat(descriptor).st_size))\n",
        "",
        KEPT,
    ),
    Bug("privacy", "a short pseudonym", "gateway/privacy.py", "PSEUDONYM_DIGITS = 16", "PSEUDONYM_DIGITS = 8", PRIVACY),
    Bug(
        "privacy",
        "a key that others read",
        "gateway/privacy.py",
        "KEY_MODE = 0o600",
        "KEY_MODE = 0o644",
        MODES,
    ),
    Bug(
        "privacy",
        "`none` gives the identity",
        "gateway/privacy.py",
        '        if self._mode == "none":\n            return None\n',
        "",
        PRIVACY,
    ),
    Bug(
        "commands",
        "retained commands are carried out",
        "gateway/answers.py",
        "        if command.retained:\n",
        "        if False:\n",
        LIMITS,
    ),
    Bug(
        "commands", "any number of commands a second", "gateway/answers.py", "        self._rate.spend(1)\n", "", LIMITS
    ),
    Bug(
        "commands",
        "a command of any size",
        "gateway/commands.py",
        "if len(payload) > PAYLOAD_BYTES_MAX:",
        "if False:",
        LIMITS,
    ),
    Bug(
        "commands",
        "what is not allowed runs",
        "gateway/commands.py",
        "    if verb not in allow:\n",
        "    if verb not in VERBS:\n",
        INBOUND,
    ),
    Bug(
        "control", "a socket for everybody", "gateway/control.py", "SOCKET_MODE = 0o660", "SOCKET_MODE = 0o666", CONTROL
    ),
    Bug(
        "control",
        "a question has no end",
        "gateway/control.py",
        "QUESTION_WITHIN_S = 2.0",
        "QUESTION_WITHIN_S = 200.0",
        LIMITS,
    ),
    Bug(
        "remote",
        "the overlay is not synced",
        "gateway/config/overlay.py",
        "        os.fsync(file.fileno())\n",
        "",
        KEPT,
    ),
    Bug(
        "remote",
        "the overlay's name is not synced",
        "gateway/config/overlay.py",
        "        os.fsync(directory)\n",
        "        pass\n",
        KEPT,
    ),
    Bug(
        "remote",
        "the overlay is written in place",
        "gateway/config/overlay.py",
        'fresh = path.with_name(f"{path.name}.new")',
        "fresh = path",
        KEPT,
    ),
    Bug(
        "technician",
        "a calibration is not synced",
        "gateway/technician/calibration_store.py",
        "            self.disk.sync(fd)\n",
        "",
        KEPT,
    ),
    Bug(
        "technician",
        "a calibration's name is not synced",
        "gateway/technician/calibration_store.py",
        "            self.disk.sync_directory(str(self.directory))\n",
        "",
        KEPT,
    ),
    Bug(
        "adoption",
        "the mark after the rename",
        "gateway/adoption.py",
        (
            "    marked = _mark(card.outbox, configuration)\n"
            "    with acting_as_owner_of(target):\n"
            "        put_aside = _into_place(fresh, target)\n"
        ),
        (
            "    with acting_as_owner_of(target):\n"
            "        put_aside = _into_place(fresh, target)\n"
            "    marked = _mark(card.outbox, configuration)\n"
        ),
        KEPT,
    ),
    Bug(
        "adoption",
        "the key of the day stays on the card",
        "gateway/adoption.py",
        '    outbox.remove("privacy.key")\n',
        "",
        KEPT,
    ),
    Bug(
        "adoption",
        "the key may come back",
        "gateway/adoption.py",
        "        os.fsync(outbox.fd)  # else a power cut brings the key back\n",
        "        pass\n",
        KEPT,
    ),
    Bug(
        "adoption",
        "in place without its folder's sync",
        "gateway/adoption.py",
        "    RealDisk().sync_directory(str(target.parent))\n    return put_aside",
        "    return put_aside",
        KEPT,
    ),
    Bug(
        "installer",
        "a bundle is not verified",
        "scripts/installer/source.py",
        "            count = verify(self.folder)\n",
        "            count = 0\n",
        MODES,
    ),
    Bug(
        "installer",
        "gateway.toml for everybody",
        "scripts/installer/installing.py",
        "place.write(path, example, 0o640)",
        "place.write(path, example, 0o644)",
        MODES,
    ),
    Bug(
        "installer",
        "what is installed has the umask's mode",
        "gateway/safe_files.py",
        "            os.fchmod(fd, mode)\n",
        "",
        MODES,
    ),
    Bug(
        "installer",
        "the device's own key is not asked",
        "scripts/installer/source.py",
        "            check_signature(self.folder, on_device)\n",
        "            pass\n",
        INSTALLER,
    ),
    Bug(
        "installer",
        "a sum that differs is no damage",
        "scripts/installer/trust.py",
        "            if digest(there[name]) != wanted[name]:\n",
        "            if digest(there[name]) == SUMS:\n",
        MODES,
    ),
    Bug(
        "support",
        "nothing is redacted",
        "gateway/redaction.py",
        '        """Return the text without them."""\n',
        '        """Return the text without them."""\n        return text\n',
        REDACTION,
    ),
    Bug(
        "support",
        "the log alone is not redacted",
        "gateway/cli/support_bundle.py",
        "        file: redact(inner) if isinstance(inner, str)",
        '        file: (inner if file == "log.txt" else redact(inner)) if isinstance(inner, str)',
        REDACTION,
    ),
    Bug(
        "support",
        "documents are not redacted",
        "gateway/cli/support_bundle.py",
        "_json(redact.document(inner))",
        "_json(inner)",
        REDACTION,
    ),
    Bug(
        "consumer",
        "a gap is none",
        "gateway/consumer/ledger.py",
        '"gaps" if missing or uncounted else',
        '"gaps" if uncounted else',
        CONSUMER,
    ),
    Bug(
        "consumer",
        "a duplicate is delivered again",
        "gateway/consumer/ledger.py",
        "            book.duplicates += 1\n            return False\n",
        "            book.duplicates += 1\n            return True\n",
        CONSUMER,
    ),
    Bug(
        "consumer",
        "a named loss is a gap",
        "gateway/consumer/ledger.py",
        "and book.covered.add(loss.first, loss.last)",
        "and True",
        CONSUMER,
    ),
    Bug("logs", "a flood fills the card", "gateway/logs.py", "    stream.addFilter(Throttle())\n", "", CLOUD_KEYS),
    Bug("logs", "a flood is not counted", "gateway/logs.py", "        kind.left_out += 1\n", "", CLOUD_KEYS),
    Bug(
        "commands",
        "the cloud may be allowed to set the broker",
        "gateway/config/cloud_keys.py",
        'broker="profile protocol discovery",',
        'broker="profile protocol discovery url",',
        CLOUD_KEYS,
    ),
    Bug(
        "commands",
        "a password in clear text is not warned of",
        "gateway/checks/warnings.py",
        "not endpoint.is_tls and",
        "endpoint.is_tls and",
        CLOUD_KEYS,
    ),
    Bug(
        "commands",
        "any signature is believed",
        "gateway/signed.py",
        "verify(CONTEXT + statement, signature)",
        "True",
        SIGNED,
    ),
    Bug(
        "commands",
        "what is signed for another gateway is believed",
        "gateway/signed.py",
        'said["topic"] != topic',
        "False",
        SIGNED,
    ),
    Bug(
        "commands",
        "an expired command is believed",
        "gateway/signed.py",
        "abs(age_ms) > WINDOW_MS",
        "age_ms < -WINDOW_MS",
        SIGNED,
    ),
    Bug(
        "commands",
        "a command of the future is believed",
        "gateway/signed.py",
        "abs(age_ms) > WINDOW_MS",
        "age_ms > WINDOW_MS",
        SIGNED,
    ),
    Bug(
        "commands",
        "a command is believed twice",
        "gateway/signed.py",
        "any(nonce == one for _, one in believed.last)",
        "False",
        SIGNED,
    ),
    Bug(
        "commands",
        "what was forgotten is believed again",
        "gateway/signed.py",
        "time_ms <= believed.floor_ms",
        "False",
        SIGNED,
    ),
    Bug(
        "commands", "a clock that is not set is believed", "gateway/signed.py", 'now.clock != "synced"', "False", SIGNED
    ),
    Bug(
        "commands",
        "what was believed is not kept",
        "gateway/answers.py",
        "            write_believed(directory, believed)\n",
        "            pass\n",
        SIGNED,
    ),
    Bug(
        "commands",
        "restart needs no signature",
        "gateway/signed.py",
        '("config", "restart", "update")',
        '("config", "update")',
        SIGNED,
    ),
    Bug(
        "commands",
        "a damaged memory is an empty one",
        "gateway/signed.py",
        "return Believed(now.wall_ns // NS_PER_MS)",
        "return Believed()",
        SIGNED,
    ),
    Bug(
        "commands",
        "a private key is not told",
        "gateway/signing_keys.py",
        'if b"PRIVATE KEY" in content:',
        'if b"PRIVATE  KEY" in content:',
        SIGNED,
    ),
    Bug(
        "commands",
        "a resend costs nothing",
        "gateway/commands.py",
        "        self._spent += EVENT_BYTES * ",
        "        _ = ",
        RESENDS,
    ),
    Bug(
        "commands",
        "no budget for resends",
        "gateway/answers.py",
        "self._budget.through(kept, now.boot_ns)",
        "asked.last",
        SIGNED,
    ),
    Bug(
        "commands",
        "a secret that every user can read is not warned of",
        "gateway/checks/warnings.py",
        "mode & 0o007",
        "mode & 0o002",
        CLOUD_KEYS,
    ),
)
