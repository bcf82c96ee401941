"""What of a name can be shown."""

from undying._base.text import clean, clip


def test_clean_keeps_letters_and_shows_the_rest() -> None:
    assert clean("naïve 漢字 🙂\n") == "naïve 漢字 🙂\n"
    assert clean("\x00\x1b\x9b\ud800\ufffe") == "�" * 5


def test_clip_is_one_line_of_at_most_the_width() -> None:
    assert clip("a\nb", 9) == "a b"
    assert all(len(clip("abcdefghijklmnop", width)) == width for width in range(4, 16))
