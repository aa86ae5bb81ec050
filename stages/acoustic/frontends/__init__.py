"""One file a front-end, found by its name: what an utterance is to the acoustic model.

A front-end file has
    Settings            a Section with `name: Literal["<file name>"]`
    STAGES              the stages among "quantizer", "discretize", "bert" whose work it reads
    open_split(settings, folders)
                        a function from an utterance id to its features: (F, D) float32, or
                        tokens (F,) int64. `folders` holds "manifest" and, by STAGES, "units"
                        and "vocabulary". Where features cost much, it has a method `frames`
                        that tells an utterance's F without making them.
    new_encoder(settings, bert, folders)
                        the encoder to fine-tune (`bert`: BertSettings; `folders` as by STAGES)
    empty_encoder(config)
                        the same without weights, from the `encoder` entry of a saved model
and, only if its units are not those of the recipe's quantizer,
    unit_source(settings, quantizer)
                        a UnitSource (stages/units/source.py): stages 1 and 2 done another way
                        (`quantizer`: QuantizerSettings)
Encoders are those of stages/acoustic/encoders.py or behave like them.
"""
