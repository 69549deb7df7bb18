"""What is printed cannot move a terminal's cursor, change its colors or reverse its lines."""

import pytest

from keras_googlenet.text import printable, say


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("daisy 1.jpg", "daisy 1.jpg"),
        ("fleur d'été, 雛菊, 🌼", "fleur d'été, 雛菊, 🌼"),
        ("two\nlines\tand a tab", "two\nlines\tand a tab"),
        ("\x1b[2Jgone", "\\x1b[2Jgone"),
        ("back\rover", "back\\rover"),
        ("\x9b31mred", "\\x9b31mred"),  # the C1 form of the same escape
        ("photo\u202egnp.exe", "photo\\u202egnp.exe"),
        (b"caf\xe9".decode(errors="surrogateescape"), "caf\\udce9"),
        ("\u200c\u200d", "\u200c\u200d"),  # joiners, which names in Persian and emoji have
    ],
)
def test_what_could_control_a_terminal_is_shown_as_an_escape(text, shown):
    assert printable(text) == shown


def test_say_prints_as_print_does(capsys):
    say("a\x1b", 1, end="!")
    assert capsys.readouterr().out == "a\\x1b 1!"
