"""The columns "params" and "ops" as printed in the paper's Table 1, to compare counts with."""

from __future__ import annotations

CLASSES = 1000  # of the printed network
SIZE = 224  # pixels of its input

# By the name of the row's layers. 2.7K is 2 x 7 x 3 x 64, which a 7x1 and a 1x7 would have, and no 7x7.
PRINTED = {
    "conv1_7x7_s2": ("2.7K", "34M"),
    "conv2_3x3": ("112K", "360M"),
    "inception_3a": ("159K", "128M"),
    "inception_3b": ("380K", "304M"),
    "inception_4a": ("364K", "73M"),
    "inception_4b": ("437K", "88M"),
    "inception_4c": ("463K", "100M"),
    "inception_4d": ("580K", "119M"),
    "inception_4e": ("840K", "170M"),
    "inception_5a": ("1072K", "54M"),
    "inception_5b": ("1388K", "71M"),
    "main": ("1000K", "1M"),
}


def value(figure: str) -> float:
    """A printed figure such as `"2.7K"` as a number."""
    return float(figure[:-1]) * {"K": 10**3, "M": 10**6}[figure[-1]]


def differences(name: str, parameters: int, macs: int) -> str:
    """Where counts differ from a printed row by more than its last digit; empty where they agree."""
    notes = []
    for what, count, figure in zip(("params", "ops"), (parameters, macs), PRINTED[name], strict=True):
        last_digit = value(("0.1" if "." in figure else "1") + figure[-1])
        if abs(count - value(figure)) < last_digit:
            continue
        # Several rows count right in units of 1024 parameters.
        if figure.endswith("K") and abs(count / 1.024 - value(figure)) < last_digit:
            notes.append(f"{what} agree if K is 1024")
        else:
            notes.append(f"{what} {count / value(figure):.2f} x printed")
    return ", ".join(notes)
