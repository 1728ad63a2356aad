"""What the recipes' comments say of memory is what the plan says, and fits the card that they are for."""

from __future__ import annotations

import json
import re

import pytest

from tts_train.cli import main
from tts_train.memory.cards import GIB
from tts_train.recipes import recipes_of

pytestmark = pytest.mark.slow

USABLE = {6: 5.6, 8: 7.6, 12: 11.6, 16: 14.6, 24: 22.0}
"""GiB of a card of so many GB: the least that drivers report, as T4 and L4 do."""
ROOM = 0.35
"""GiB that no figure may be nearer to a card, as what a card needs besides the tensors differs from card to card."""
WHOLE = {"0.6B": 914_643_008, "1.7B": 1_928_677_440}
"""Parameters: 764,218,368 + 141,570,304 + 8,854,336, and 1,741,550,592 + 175,125,760 + 12,001,088."""
RECIPES = {name: path for name, path in recipes_of("qwen3_tts").items() if "accelerator: gpu" in path.read_text()}
SAID = re.compile(r"`tts-train plan` says ([\d.]+) GiB at ([\d,]+) positions, ([\d.]+) GiB with")


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_needs_what_it_says_and_fits_its_card(name, capsys):
    text = " ".join(line.lstrip("# ") for line in RECIPES[name].read_text().splitlines())
    ((peak, positions, all_),) = SAID.findall(text)
    (card,) = re.findall(r"Card: (\d+) GB", text)
    assert main(["plan", "-c", str(RECIPES[name]), "--json"]) == 0
    plan = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert plan["data.max_tokens"] == int(positions.replace(",", ""))
    assert plan["peak_bytes"] / GIB == pytest.approx(float(peak), abs=0.06)
    assert plan["needed_bytes"] / GIB <= float(all_) + 0.06
    assert float(all_) + ROOM <= USABLE[int(card)]
    (size,) = set(re.findall(r"init_from: \S+-(0\.6B|1\.7B)-Base", text))
    adapters = plan["trained_parameters"] if "method: lora" in text else 0
    assert plan["parameters"] - adapters == WHOLE[size]
