"""`gateway adopt`: take over the card of a gateway that died."""

from __future__ import annotations

import dataclasses
from contextlib import nullcontext
from pathlib import Path

import click

from gateway.cli.verb import Verb, configured, load, printing, say_json
from gateway.errors import EXIT_GOOD


@click.command(
    cls=Verb,
    example="""
    sudo mount /dev/sda2 /mnt && sudo gateway adopt /mnt
    sudo gateway adopt /mnt/var/lib/gateway/outbox
    sudo gateway adopt --from-image card.img
    """,
)
@configured
@printing
@click.argument("directory", type=click.Path(path_type=Path), required=False)
@click.option("--from-image", "image", type=click.Path(path_type=Path), metavar="FILE", help="A copy of the card (dd).")
@click.option("--damaged", is_flag=True, help="Take a damaged outbox too: what is lost is named at the next start.")
@click.option("--again", is_flag=True, help="Take a card that is marked as adopted: that adoption was interrupted.")
def adopt(
    config: tuple[Path, ...], as_json: bool, directory: Path | None, image: Path | None, damaged: bool, again: bool
) -> int:
    """Take over a dead gateway's card: its outbox goes on here, with its id, its unsent events and its calibrations.

    DIRECTORY is the card as it is mounted, or the outbox directory on it. Mount it writable, so that the kernel
    replays its journal and the card can be marked: it must never run as a gateway again. No daemon may run
    meanwhile (systemctl stop gateway), and nothing unsent may lie in the outbox here. Of an image the copy is marked,
    not the card: destroy that.
    """
    configuration = load(config)
    if (directory is None) == (image is None):
        raise click.UsageError("name the card's DIRECTORY, or its copy with --from-image FILE")
    from gateway.technician import adoption
    from gateway.technician.card_image import mounted

    with mounted(image) if image is not None else nullcontext(directory) as card:
        assert card is not None
        done = adoption.adopt(configuration, card, damaged=damaged, again=again)
    if as_json:
        say_json(dataclasses.asdict(done))
        return EXIT_GOOD
    site = configuration.site
    waiting = ", ".join(f"{count} {stream}" for stream, count in done.unsent.items() if count) or "none"
    click.echo(f"outbox {done.outbox} goes on here, as /stores/{site.store}/gateways/{site.gateway}")
    click.echo(f"not yet sent: {waiting}")
    if done.calibrations:
        click.echo(f"calibrations taken: {', '.join(done.calibrations)}")
    if done.calibrations_kept:
        click.echo(f"calibrations kept, made here since: {', '.join(done.calibrations_kept)}")
    if done.put_aside is not None:
        click.echo(f"the outbox that was here, all of it sent, lies in {done.put_aside}")
    for damage in done.damages:
        click.echo(f"damaged, or not taken: {damage}")
    if not done.identity_checked:
        click.echo("the card's configuration was not found: see yourself that it was this store's and this gateway's")
    if image is not None:
        click.echo("The copy is marked, the card itself is not: destroy it. Next: systemctl start gateway")
    elif done.marked:
        click.echo("The old card is marked and must never run again. Next: systemctl start gateway")
    else:
        click.echo("THE OLD CARD COULD NOT BE MARKED. Destroy it: if it ever ran again, two events would share an id.")
        click.echo("Next: systemctl start gateway")
    return EXIT_GOOD
