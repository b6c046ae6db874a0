"""The drivers of a shelf's converter, the HX711: by GPIO, by SPI, by the kernel."""
