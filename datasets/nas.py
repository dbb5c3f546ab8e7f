"""Recordings of a neuromorphic auditory sensor (NAS): address and time without a header, as jAER and pyNAVIS keep them.

    uint16 (or uint32) address   uint32 t (ticks), both big-endian;   address = 2 * channel + (1: OFF)

Channels of the right ear of a stereo recording follow those of the left. x is the channel, y the ear, p ON or OFF. Nothing
in the file tells its layout, so it must be given. Source: J. P. Dominguez-Morales, pyNAVIS, documentation.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from neuro.datasets.events import EVENT, Recording, Sensor, check_events
from neuro.errors import FormatError, ParameterError, explain


def read_nas(
    source: str | os.PathLike | bytes, channels: int, *, stereo: bool = False, on_off: bool = True, address_bytes: int = 2, tick_us: float = 0.2
) -> Recording:
    """The spikes as a recording on a sensor of 1 (stereo: 2) x `channels`; times are rounded to microseconds.

    on_off: two addresses for each channel; else one, and all events are ON.

    Raises:
        ParameterError: a layout that cannot be. FormatError: bytes that do not fit it. FileNotFoundError: no such file.

    >>> read_nas(bytes([0, 3, 0, 0, 0, 50]), channels=32).events
    array([(1, 0, 10, False)],
          dtype=[('x', '<i2'), ('y', '<i2'), ('t', '<i8'), ('p', '?')])
    """
    if not 1 <= channels <= 32767 or address_bytes not in (2, 4) or not 0 < tick_us < 1e6:
        fact = f"channels={channels}   address_bytes={address_bytes}   tick_us={tick_us}"
        raise ParameterError(explain("read_nas: channels from 1 to 32767, addresses of 2 or 4 bytes, a tick above 0.", fact))
    data, name = (bytes(source), "(memory)") if isinstance(source, bytes) else (Path(source).read_bytes(), Path(source).name)
    word = np.dtype([("a", f">u{address_bytes}"), ("t", ">u4")])
    if len(data) % word.itemsize:
        raise FormatError(explain(f"read_nas: {name} is no whole number of spikes.", f"{len(data)} bytes, {word.itemsize} each"))
    words = np.frombuffer(data, word)
    address = words["a"].astype(np.int64)
    channel, polarity = (address >> 1, address & 1 == 0) if on_off else (address, np.ones(len(words), bool))
    ears = 1 + stereo
    if len(channel) and channel.max() >= channels * ears:
        fact = f"address {address.max()}   channels={channels}   stereo={stereo}   on_off={on_off}"
        raise FormatError(explain(f"read_nas: {name} has an address outside the channels.", fact, cure="Give the recording's own layout."))
    events = np.empty(len(words), EVENT)
    events["x"], events["y"], events["p"] = channel % channels, channel // channels, polarity
    events["t"] = np.rint(words["t"] * float(tick_us)).astype(np.int64)
    sensor = Sensor(ears, channels)
    return Recording(check_events(events, sensor), sensor, name=name)
