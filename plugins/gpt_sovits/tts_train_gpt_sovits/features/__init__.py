"""What the networks around the stages say about speech and text: each frozen, each loaded from a file or ``tiny``."""

from tts_train_gpt_sovits.features.bert import BertFeatures
from tts_train_gpt_sovits.features.hubert import HubertFeatures, clip_fault
from tts_train_gpt_sovits.features.speaker import SpeakerVectors

__all__ = ["BertFeatures", "HubertFeatures", "SpeakerVectors", "clip_fault"]
