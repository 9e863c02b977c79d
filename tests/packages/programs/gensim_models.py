"""Models of gensim that are trained or rated by several processes."""

from gensim.corpora import Dictionary
from gensim.models import CoherenceModel, LdaMulticore
from gensim.models.phrases import Phrases

WORDS = ("tree", "leaf", "root", "branch", "river", "stone")
WORDS += ("water", "boat", "engine", "wheel", "road", "driver")


def texts():
    for n in range(240):
        start = 6 * (n % 2)
        yield [WORDS[start + (n * k + k * k) % 6] for k in range(1, 9)]


if __name__ == "__main__":
    documents = list(texts())
    dictionary = Dictionary(documents)
    corpus = [dictionary.doc2bow(text) for text in documents]
    # One chunk, so that the result does not depend on who takes it.
    options = {"id2word": dictionary, "num_topics": 2, "random_state": 0, "workers": 2}
    lda = LdaMulticore(corpus, chunksize=len(corpus), passes=2, batch=True, **options)
    print([(topic, f"{words}") for topic, words in lda.print_topics()])
    # With several, how often the model is updated is left to chance.
    many = LdaMulticore(corpus, chunksize=10, passes=3, **options)
    print(many.get_topics().shape)
    for measure in ("c_v", "c_npmi"):
        model = CoherenceModel(
            model=lda, texts=documents, dictionary=dictionary, coherence=measure, processes=2
        )
        print(measure, round(model.get_coherence(), 9))
    print(len(Phrases(documents).vocab))
