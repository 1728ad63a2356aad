"""Sentences for the small codec to be trained on: put together from word lists that hold every English phoneme."""

from __future__ import annotations

import random
from collections.abc import Iterator


def _listed(text: str) -> list[str]:
    return [" ".join(words.split()) for words in text.split("|")]


_PEOPLE = _listed(
    """
    my uncle | the young teacher | a famous author | our postman | the old fisherman | my cousin Judith | the
    village doctor | Doctor Shaw | a shy girl | the drummer | your brother | Mister Vaughan | the queen | an
    engineer | the choir | a loyal friend | Theo | Zoe | the gardener | Aunt Beth | the tall chef | a clever thief |
    George | Charlotte | the cheerful nurse | each pupil | the whole team | the boatman | his grandfather | a quiet
    stranger | the pilot | Martha | the juggler | nobody | a zoologist | the mayor | twelve soldiers
    """
)
_VERBS = _listed(
    """
    found | carried | painted | measured | noticed | enjoyed | watched | chose | threw away | shouted about |
    borrowed | described | sold | pushed | wrapped | polished | forgot | loved | brought home | searched for |
    thought about | laughed at | repaired | sketched | catalogued | shared | pulled | visualised | drove past |
    examined | washed | squeezed | gathered | fought over | hung up | photographed | chewed | weighed | mentioned |
    returned | avoided | rubbed | cherished | moved | yearned for | dug up
    """
)
_THINGS = _listed(
    """
    a leather jacket | three yellow onions | the broken bicycle | a huge pumpkin | the garage door | an orange boat
    | the mirror | a pair of gloves | the thick soup | some fresh cheese | the judge's hat | five wooden spoons | a
    strange machine | the vanished treasure | a bunch of violets | the kitchen table | an empty bottle | two small
    birds | a jar of honey | the long rope | a foolish idea | the church clock | a box of matches | the azure vase |
    a bowl of porridge | the television | a pinch of sugar | the sheep | a valuable coin | the other half | an
    enormous cabbage | the toy engine | a measuring jug | the gold ring | a muddy shoe | her usual chair | a quarter
    of the cake | the third chapter | an audio book | the ginger cat | those oysters | a beige shirt
    """
)
_PLACES = _listed(
    """
    in the garden | under the bridge | near the harbour | behind the theatre | at the zoo | beside the fire | on the
    third floor | by the ocean | across the valley | between two hills | along the beach | outside the village |
    above the bakery | in South Yorkshire | at school | down the road | over there | on a steep path | through the
    woods | next to the forge | within a cave | on the ice | at the edge of town | below the tower | in the choir
    loft | on the train to Oxford | inside the shed
    """
)
_TIMES = _listed(
    """
    this morning | last Thursday | after lunch | before the storm | every other year | in January | at half past
    eight | on my birthday | once a month | long ago | when the moon was full | without a word | as usual | for a
    whole hour | during the voyage | in the twentieth century | by pure chance | with great pleasure | until noon |
    just in time | on Wednesday | while it was raining
    """
)
_QUALITIES = _listed(
    """
    quiet | dangerous | beautiful | far too bright | rather cheap | smooth and cool | better than before |
    thoroughly boring | yellow | unusual | weather proof | worth the journey | about six feet long | hardly visible
    | as light as a feather | quite curious | full of joy | harsh | fairly large | sour | genuine | a little bit
    rough | very useful | tired | ashamed | pure | awkward
    """
)
_SHORT = _listed(
    """
    Yes, of course. | No, thank you. | How odd! | Who is there? | Well done. | Why not? | Just a moment. | I have no
    choice. | Oh dear, oh dear. | Go ahead, Joyce. | See you soon. | What a voyage! | Hush, they can hear us. | That
    is enough. | Look out! | It was pure luck. | Are you sure? | Oil and vinegar, please. | Both of them are fine. |
    Wait for me! | Nothing at all. | Thirty three.
    """
)
_COUNTS = _listed(
    """
    two | three | four | five | six | seven | eight | nine | ten | eleven | twelve | thirteen | forty | fifty |
    a hundred | a thousand
    """
)
_PLURALS = _listed(
    """
    boys | cages | watches | bridges | leaves | mouths | songs | judges | sheep | fish | photographs | toys | wishes
    | maps | bags | cups | buses | thieves | paths | hours | engines | ships | eggs | cakes | flutes | vans | kings
    | yachts | games | bells | dresses | shadows | clouds | roots
    """
)
_FRAMES = (
    "{P} {v} {t} {l}.",
    "{P} {v} {t} {w}.",
    "{W}, {p} {v} {t}.",
    "Have you heard that {p} {v} {t}?",
    "{L} stood {n} {s}, and all of them were {q}.",
    "{T} was {q}, but {p} {v} {t} all the same.",
    "Is {t} {q}?",
    "I think {t} will be {q} {l}.",
    "Where did {p} put {t}?",
    "Could you take {t} and {n} {s} to {p}, please?",
    "If {p} goes there {w}, we shall see {n} {s}.",
    "{T}, {t2} and {n} {s} were {l}.",
    "{P} said that {t} {l} is {q}.",
    "Give {p} {t}, or leave it {l}!",
    "Why was {t} so {q} {w}?",
    "There are {n} {s} {l}.",
    "{N} {s}.",
    "{P} {v} {t}, {v2} {t2}, and went away.",
    "Those {s} look {q}.",
    "{W} {p} used to sing {l}.",
)


def sentences(count: int, *, seed: int = 0) -> list[str]:
    """Return that many different sentences, the same ones for the same seed; one in 25 is a short set phrase."""
    found = dict.fromkeys(_SHORT[: count // 25])
    for sentence in _endless(random.Random(seed)):
        if len(found) >= count:
            break
        found.setdefault(sentence)
    return list(found)


def _endless(chance: random.Random) -> Iterator[str]:
    while True:
        parts = {
            "p": chance.choice(_PEOPLE),
            "v": chance.choice(_VERBS),
            "v2": chance.choice(_VERBS),
            "t": chance.choice(_THINGS),
            "t2": chance.choice(_THINGS),
            "l": chance.choice(_PLACES),
            "w": chance.choice(_TIMES),
            "q": chance.choice(_QUALITIES),
            "n": chance.choice(_COUNTS),
            "s": chance.choice(_PLURALS),
        }
        begins = {key.upper(): word[0].upper() + word[1:] for key, word in parts.items()}
        yield chance.choice(_FRAMES).format(**parts, **begins)
