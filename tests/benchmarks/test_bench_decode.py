"""What the benchmark of decoding compares is the same work on both sides."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from stages.acoustic.decoders.greedy import Greedy
from stages.acoustic.targets import Targets
from tests.benchmarks import bench_decode
from tests.benchmarks.bench_decode import Search, Split, ours, peer, tuned
from tests.benchmarks.made_up_speech import Corpus, make_corpus


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return make_corpus(tmp_path_factory.mktemp("made"), words=50, sentences=200)


def test_made_up_speech_is_the_same_every_time_and_hard_to_read_alone(
    corpus: Corpus, tmp_path: Path
) -> None:
    again = make_corpus(tmp_path, words=50, sentences=200)
    sentences, log_probs = corpus.test
    assert sentences == again.test[0]
    for name, found in log_probs.items():
        np.testing.assert_array_equal(found, again.test[1][name])
        np.testing.assert_allclose(np.exp(found).sum(1), 1, atol=1e-5)
    greedy = Greedy(Targets.load(corpus.lm))
    split = Split(log_probs, sentences, 1.0)
    alone = split.errors(lambda all_: {i: " ".join(greedy.decode(x)) for i, x in all_.items()})
    beamed = split.errors(ours(corpus.lm, 2.0, 0.0, 100))
    assert alone.rate > 0.5 and 0 < beamed.rate < 0.3


def test_both_sides_write_clear_speech_as_said(corpus: Corpus) -> None:
    pytest.importorskip("pyctcdecode")
    targets = Targets.load(corpus.lm)
    said, clear = corpus.dev[0], {}
    for name, sentence in said.items():
        path = [v for target in targets.encode(sentence) for v in (target, targets.blank)]
        logits = np.full((len(path), len(targets)), -9.0, np.float32)
        logits[np.arange(len(path)), path] = -0.01
        clear[name] = logits
    assert ours(corpus.lm, 1.0, 0.0, 50)(clear) == said
    assert peer(corpus.lm, 1.0, 0.0, 100)(clear) == said


def test_each_side_takes_the_smallest_beam_that_is_no_worse_on_dev(
    corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The peer is our search with a beam three times as wide: a third of ours does for it."""

    def wide(lm: Path, lm_weight: float, word_score: float, beam: int) -> Search:
        return ours(lm, 1.0, 0.0, 3 * beam)

    sentences, log_probs = corpus.dev
    split = Split(log_probs, sentences, 60.0)
    monkeypatch.setattr(bench_decode, "ROUNDS", 1)
    monkeypatch.setattr(bench_decode, "BEAMS", (1, 30, 90))
    monkeypatch.setattr(bench_decode, "PEERS_BEAM", 30)
    monkeypatch.setattr(bench_decode, "peer", wide)
    monkeypatch.setattr(bench_decode, "LM_WEIGHTS", (1.0,))
    monkeypatch.setattr(bench_decode, "WORD_SCORES", (0.0,))
    case = bench_decode.Case("toy", corpus.lm, split, split)
    errors = {beam: split.errors(ours(corpus.lm, 1.0, 0.0, beam)) for beam in (1, 3, 30, 90)}
    told = bench_decode.row("some", case).conditions
    goal = errors[90].errors
    of_peer = next(b for b in (1, 30) if errors[3 * b].errors <= goal)
    least = min(goal, errors[3 * of_peer].errors)  # dev is test here
    of_ours = next(b for b in (1, 30, 90) if errors[b].errors <= least)
    assert f"(dev {errors[of_ours].rate:.1%}) with beam {of_ours}, lm_weight" in told
    assert f"(dev {errors[3 * of_peer].rate:.1%}) with beam {of_peer}, lm_weight" in told
    assert of_ours > 1
    small = bench_decode.smallest(case, [(1.0, 0.0)], ours, errors[1])
    lucky = bench_decode.smallest(case, [(1.0, 0.0)], ours, errors[1], on_test=errors[90])
    assert small[0] == 1 and errors[lucky[0]].errors <= errors[90].errors < errors[1].errors
    with pytest.raises(RuntimeError, match="no beam reaches"):
        monkeypatch.setattr(bench_decode, "BEAMS", (1,))
        bench_decode.row("some", case)


def test_a_narrower_beam_of_the_peer_is_searched(corpus: Corpus) -> None:
    pytest.importorskip("pyctcdecode")
    split = Split(corpus.dev[1], corpus.dev[0], 60.0)
    narrow, wide = (split.errors(peer(corpus.lm, 1.0, 0.0, beam)).errors for beam in (1, 100))
    assert narrow > wide


def test_of_a_grid_the_weights_with_the_fewest_errors_on_dev_are_taken(corpus: Corpus) -> None:
    split = Split(corpus.dev[1], corpus.dev[0], 60.0)
    point, _ = tuned(split, [(0.0, -50.0), (1.0, 0.0)], lambda p: ours(corpus.lm, *p, 90))
    assert point == (1.0, 0.0)
