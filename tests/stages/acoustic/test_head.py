"""The convolution under the CTC layer, and the BERT under both."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import BertConfig, BertForMaskedLM

from stages.acoustic.encoders import UnitEncoder
from stages.acoustic.model import AcousticConfig, AcousticModel, Head

ENCODER = {
    "bert": {
        "vocab_size": 20,
        "hidden_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 16,
        "max_position_embeddings": 64,
        "type_vocab_size": 1,
    }
}


def model(head_frames: int) -> AcousticModel:
    torch.manual_seed(0)
    config = AcousticConfig({"name": "unit_bert"}, ENCODER, targets=5, head_frames=head_frames)
    return AcousticModel(config).eval()


def test_a_head_sees_as_many_frames_as_it_is_told() -> None:
    head = Head(4, 5).eval()
    hidden_BFD = torch.randn(1, 20, 4)
    changed_BFD = hidden_BFD.clone()
    changed_BFD[0, 10] += 1
    differs_F = (head(hidden_BFD) - head(changed_BFD)).abs().sum(-1)[0] > 1e-6
    assert differs_F.nonzero().flatten().tolist() == [8, 9, 10, 11, 12]


def test_no_head_is_the_papers_linear_layer() -> None:
    assert model(1).head is None
    assert model(3).head is not None


def test_padding_changes_nothing_through_a_head() -> None:
    acoustic = model(7)
    tokens_BF = torch.randint(3, 20, (1, 12))
    alone = acoustic(tokens_BF, torch.tensor([12]))
    padded_BF = torch.cat([tokens_BF, torch.randint(3, 20, (1, 9))], dim=1)
    beside = acoustic(padded_BF, torch.tensor([12]))[:, :12]
    torch.testing.assert_close(alone, beside, atol=1e-5, rtol=1e-5)


def test_the_pretrained_weights_are_those_of_stage_3(tmp_path: Path) -> None:
    torch.manual_seed(0)
    trained = BertForMaskedLM(BertConfig(**ENCODER["bert"])).eval()
    trained.save_pretrained(tmp_path)
    encoder = UnitEncoder.pretrained(tmp_path).eval()
    tokens_BF = torch.randint(3, 20, (2, 9))
    attended_BF = torch.ones(2, 9, dtype=torch.bool)
    expected = trained.bert(tokens_BF).last_hidden_state
    torch.testing.assert_close(encoder(tokens_BF, attended_BF), expected)
