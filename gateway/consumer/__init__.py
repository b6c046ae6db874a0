"""What a careful consumer in the cloud does with a gateway's messages.

`messages` reads them, `ledger` proves that none is missing, `order` sorts, `subscription` listens.
The same code shows the demonstration's ledger, runs `gateway listen`, and is an example for those who write their own.
"""
