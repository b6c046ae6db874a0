"""A shelf in a simulated shop: its goods, on its scale. Pure."""

from __future__ import annotations

from gateway.sensors.shelf.settings import ShelfSettings
from gateway.sensors.simulation import ITEM_SPREAD, Goods, Shelf


def simulated(settings: ShelfSettings) -> Shelf:
    """Return the shelf with its goods; one without a calibration is simulated on the usual scale."""
    goods = tuple(
        Goods(product.sku, product.unit_grams, product.capacity or 24, product.unit_grams * ITEM_SPREAD)
        for product in settings.products
    )
    if settings.calibration is None:
        return Shelf(settings.id, goods, settings.rate_hz)
    calibration = settings.calibration
    return Shelf(settings.id, goods, settings.rate_hz, calibration.offset_counts, calibration.counts_per_gram)
