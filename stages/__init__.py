"""One room per stage, in the order of the work. This is the table of contents.

| number | name       | room                        | makes                                       |
|--------|------------|-----------------------------|---------------------------------------------|
| 0      | prepare    | stages/prepare              | manifests, label budgets, text              |
| 1      | quantizer  | stages/quantizer            | vq-wav2vec, trained by fairseq, exported    |
| 2      | discretize | stages/units/discretize.py  | units of every split, the unit vocabulary   |
| 3      | bert       | stages/units/bert.py        | a BERT pretrained on units                  |
| 4      | lm         | stages/acoustic/lm_stage.py | targets, lexicon, n-gram                    |
| 5      | finetune   | stages/acoustic/finetune.py | a CTC model per budget                      |
| 6      | decode     | stages/acoustic             | log-probabilities, tuned weights, hypotheses|
| 7      | score      | stages/acoustic             | WER and CER                                 |

How their steps hang together is written in stages/plan.py.
"""

STAGES = ("prepare", "quantizer", "discretize", "bert", "lm", "finetune", "decode", "score")
