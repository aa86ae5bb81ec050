"""One file a front-end, found by its name: what an utterance is to the acoustic model.

A front-end file has
    Settings            a Section with `name: Literal["<file name>"]`
    STAGES              the stages among "quantizer", "discretize", "bert" whose work it reads
    open_split(settings, folders, device="cpu")
                        a function from an utterance id to its features: (F, D) float32, or
                        tokens (F,) int64. `folders` holds "manifest" and, by STAGES, "units"
                        and "vocabulary", or "quantizer" where it uses no "discretize". Where
                        features cost much, it has a method `frames` that tells an utterance's
                        F without making them, and makes them on `device`.
                        Tokens are read by a UnitTokens (unit_tokens.py), so that it is told
                        how many frames have a unit that the vocabulary lacks.
    open_audio(settings, folders, device="cpu", precision="fp32")
                        the same of any speech: a FromAudio (features.py). `folders` holds, by
                        STAGES, "quantizer" and "vocabulary"; `precision` is stage 2's
    new_encoder(settings, bert, folders)
                        the encoder to fine-tune (`bert`: BertSettings; `folders` as by STAGES)
    empty_encoder(config)
                        the same without weights, from the `encoder` entry of a saved model
and, only if its units are not those of the recipe's quantizer,
    unit_source(settings, quantizer)
                        a UnitSource (stages/units/source.py): stages 1 and 2 done another way
                        (`quantizer`: QuantizerSettings)
and, only if it has no pretrained BERT and makes no Transformer of the section's size,
    BERT_KEYS           the keys of the section bert that `new_encoder` reads: those alone make
                        its models stale
and, only if not every quantizer section will do,
    refusal(settings, quantizer)
                        why this one (QuantizerSettings) will not, in a line, or None: told when
                        the recipe is read
Encoders are those of stages/acoustic/encoders.py or behave like them.
"""
