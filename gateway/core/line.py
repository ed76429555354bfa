"""What fits one line that people read: a reason, a register number, words to an operator."""

import unicodedata

_UNFIT = {"Cc", "Cs", "Zl", "Zp"}
"""Control characters, halves of a character, ends of a line or a paragraph (Unicode, general categories)."""
_TURNING = {*map(chr, range(0x202A, 0x202F)), *map(chr, range(0x2066, 0x206A))}
"""After them a terminal may show something else than what was written (Unicode, UAX 9)."""


NO_LINE = "must be one line with something to see, without control characters and ones that turn the writing"


def is_line(value: str) -> bool:
    """Whether it fits one line, with something to see.

    Khmer, Lao and Thai are written with signs that are not printable, such as U+200B between words.
    """
    fit = all(unicodedata.category(each) not in _UNFIT and each not in _TURNING for each in value)
    return fit and any(each.isprintable() and not each.isspace() for each in value)
