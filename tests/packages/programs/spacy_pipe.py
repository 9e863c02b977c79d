"""A pipeline whose documents are worked on by two processes."""

import spacy
from spacy.language import Language
from spacy.tokens import Doc


@Language.component("count_letters")
def count_letters(doc):
    if "broken" in doc.text:
        raise ValueError("a broken document")
    doc.user_data["letters"] = sum(len(token) for token in doc)
    return doc


def report(name, component, docs, error):
    print(name, [doc.text for doc in docs], repr(error))


if __name__ == "__main__":
    nlp = spacy.blank("en")
    nlp.add_pipe("sentencizer")
    nlp.add_pipe("count_letters")
    nlp.set_error_handler(report)
    texts = [f"Sentence {n}. It is not the last one, {'no' * n}!" for n in range(60)]
    texts[17] = "This is broken."
    for doc in nlp.pipe(texts, n_process=2, batch_size=8):
        assert isinstance(doc, Doc)
        print(len(doc), [sent.text for sent in doc.sents], doc.user_data["letters"])
