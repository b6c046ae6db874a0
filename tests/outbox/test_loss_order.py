"""Files of `gateway` leave with the losses they told of: what names the files again comes last, for it lets them go."""

from __future__ import annotations

from gateway.model import Instant, Loss
from gateway.outbox.losses import told_loss
from tests.outbox.conftest import Bench


def test_a_file_of_losses_is_let_go_behind_what_it_told_of(bench: Bench) -> None:
    outbox = bench.outbox
    log = outbox._logs["gateway"]
    losses = outbox._upkeep.losses
    losses.lose(log, 10, 12, "full", 3)  # one file leaves
    losses.owe(Loss("door", "refused", 5, 5, 1))  # of which the next told
    losses.lose(log, 13, 15, "full", 3)  # and that leaves too
    losses.record(Instant(0, 0), False)
    told = [told_loss(item[1], outbox.id) for item in log.pending]
    assert [(loss.stream, loss.last) for loss in told if loss] == [("door", 5), ("gateway", 15)]
