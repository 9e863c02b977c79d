"""COMPAT.md says what the list of differences says."""

from cpython import compat


def test_the_list_is_up_to_date():
    text = compat.COMPAT.read_text()
    assert compat.BEGIN in text
    assert text == compat.written(text)
