"""The vault: margin arithmetic on plain numbers.

Standard library only: no clock, no input or output, no logging, no numpy, no pandas, no Backtrader.
Signs: size is signed (long > 0); money is the account's (in > 0); a rate is positive when it costs the payer.
Times are seconds since 1970-01-01 00:00 UTC.
"""
