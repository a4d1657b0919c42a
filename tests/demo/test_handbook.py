from __future__ import annotations

import pytest

from mongo_datalayer.demo.handbook import Section, find_sections, read_handbook, telling_words


def test_every_section_has_a_title_and_a_text() -> None:
    sections = read_handbook()

    assert len({section.title for section in sections}) == len(sections) > 5
    assert all(section.text and "\n" not in section.title for section in sections)


def test_the_telling_words_are_those_that_are_not_common() -> None:
    assert telling_words("How do I share, and un-share, a CHAT? Share!") == ("share", "un", "chat")
    assert telling_words("What is it?") == ()


@pytest.mark.parametrize(
    ("question", "title"),
    [
        ("favorite", "Favourites"),
        ("favourites", "Favourites"),
        ("Can I share a chat?", "Sharing"),
        ("What happens when I press the thumb?", "Feedback"),
        ("How does the search work?", "Search"),
        ("How long can a chat be?", "Long chats"),
        ("Who can open a link that I shared?", "Sharing"),
    ],
)
def test_a_question_finds_its_section(question: str, title: str) -> None:
    assert find_sections(telling_words(question), read_handbook())[0].title == title


def test_only_sections_that_say_much_are_found() -> None:
    much = Section("Steps", "A step.")
    less = Section("Other", "A step, and steps: a step.")
    little = Section("More", "One step.")

    assert find_sections(["steps"], [little, less, much]) == (much, less)
    assert find_sections(["nothing"], [little, less, much]) == ()
    assert find_sections([], [little]) == ()
    assert find_sections(["steps"], []) == ()
