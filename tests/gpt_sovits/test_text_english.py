"""English: CMUdict, homographs, unknown words, and everything that is not a word."""

from __future__ import annotations

import pytest

from tts_train_gpt_sovits.text import FrontEnd
from tts_train_gpt_sovits.text.english.normal import EnglishNormaliser
from tts_train_gpt_sovits.text.english.reader import LetterNetwork, Tagger, dictionary

ACTIVATIONIST = ("AE2", "K", "T", "IH0", "V", "EY1", "SH", "AH0", "N", "IH0", "S", "T")


@pytest.fixture(scope="module")
def front_end():
    return FrontEnd("v1")


@pytest.fixture(scope="module")
def normaliser():
    return EnglishNormaliser(dictionary())


# The pronunciations are CMUdict's.
@pytest.mark.parametrize(
    ("text", "phones"),
    [
        ("Hello, world!", "HH AH0 L OW1 , W ER1 L D !"),
        ("The cat sat.", "DH AH0 K AE1 T S AE1 T ."),
        ("I have a dog; you don't?", "AY1 HH AE1 V AH0 D AO1 G , Y UW1 D OW1 N T ?"),
        ("Plan A works", "P L AE1 N EY1 W ER1 K S"),
        ("The BBC", "DH AH0 B IY1 B IY1 S IY1"),
        ("NASA", "N AE1 S AH0"),
        ("well-known", "W EH1 L N OW1 N"),
        ("Go -- now...", "G OW1 - N AW1 ."),
        ('He said "stop".', "HH IY1 S EH1 D - S T AA1 P - ."),
        ("the cat's tail", "DH AH0 K AE1 T S T EY1 L"),
        ("ChatGPT and JSON", "CH AE1 T JH IY1 P IY1 T IY1 AH0 N D JH EY1 S AH0 N"),
    ],
)
def test_dictionary_words_and_marks(front_end, text, phones):
    assert " ".join(front_end.speak(text, "en").phones) == phones


@pytest.mark.parametrize(("text", "phones"), [("Hi", ", HH AY1"), ("Oh!", ", OW1 !"), ("cats", "K AE1 T S")])
def test_fewer_than_four_phones_get_a_comma_in_front(front_end, text, phones):
    assert " ".join(front_end.speak(text, "en").phones) == phones


@pytest.mark.parametrize(
    ("text", "word", "other"),
    [
        ("They close the door.", "K L OW1 Z", "K L OW1 S"),
        ("The shop is close to me.", "K L OW1 S", "K L OW1 Z"),
        ("I want to read it.", "R IY1 D", "R EH1 D"),
        ("The book was read aloud.", "R EH1 D", "R IY1 D"),
        ("They use it.", "Y UW1 Z", "Y UW1 S"),
        ("It is of no use.", "Y UW1 S", "Y UW1 Z"),
        ("She will record a song.", "R IH0 K AO1 R D", "R EH1 K ER0 D"),
        ("He broke the record.", "R EH1 K ER0 D", "R IH0 K AO1 R D"),
        ("The wind was cold.", "W IH1 N D", "W AY1 N D"),
        ("They live here.", "L IH1 V", "L AY1 V"),
    ],
)
def test_homographs_follow_the_part_of_speech(front_end, text, word, other):
    phones = " ".join(front_end.speak(text, "en").phones)
    assert word in phones
    assert other not in phones


def test_the_tagger_tags_a_sentence():
    tokens = ["The", "old", "man", "walks", "his", "dogs", "."]
    assert Tagger().tag(tokens) == ["DT", "JJ", "NN", "VBZ", "PRP$", "NNS", "."]


def test_words_without_an_entry_are_guessed_from_their_letters(front_end):
    # What g2p_en 2.1.0 answers with its weights in single precision.
    assert LetterNetwork().guess("activationist") == list(ACTIVATIONIST)
    assert "blorfing" not in dictionary()
    phones = front_end.speak("blorfing", "en").phones
    assert phones[:2] == ("B", "L")
    assert phones[-2:] == ("IH0", "NG")


@pytest.mark.parametrize(
    ("text", "phones"),
    [
        ("the xqz thing", "DH AH0 EH1 K S K Y UW1 Z IY1 TH IH1 NG"),
        ("the blorf's end", "S EH1 N D"),
    ],
)
def test_short_unknown_words_are_spelled_and_possessives_voiced(front_end, text, phones):
    assert phones in " ".join(front_end.speak(text, "en").phones)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("$5.20", "five dollars and twenty cents"),
        ("$1", "one dollar"),
        ("£2.01", "two pounds and one penny"),
        ("€3 million", "three million euros"),
        ("50%", "fifty percent"),
        ("1,234,567 people", "one million two hundred thirty four thousand five hundred sixty seven people"),
        ("in 1984 and 2005", "in nineteen eighty four and two thousand five"),
        ("the 1990s", "the nineteen nineties"),
        ("3:30 p.m.", "three thirty P M."),
        ("at 9:05 today", "at nine oh five today"),
        ("May 5, 2024", "May fifth, twenty twenty four"),
        ("2024-01-31", "January thirty first, twenty twenty four"),
        ("the 22nd", "the twenty second"),
        ("3/4 cup", "three fourths cup"),
        ("3.14", "three point one four"),
        ("-4 degrees", "negative four degrees"),
        ("10 km at 5km/h", "ten kilometers at five kilometers per hour"),
        ("20°C", "twenty degrees celsius"),
        ("Dr. Smith vs. Mr. Lee", "doctor Smith versus mister Lee"),
        ("e.g. this, i.e. that", "for example this, that is that"),
        ("U.S. and IBM", "U S and I B M"),
        ("GPUs & McDonald", "G P U's and McDonald"),
        ("call 007", "call zero zero seven"),
        ("café naïve", "cafe naive"),
        ("STOP RIGHT THERE", "stop right there"),
        ("really?!", "really?"),
    ],
)
def test_numbers_money_dates_and_abbreviations(normaliser, text, words):
    assert normaliser.normalise(text).replace("-", " ") == words
