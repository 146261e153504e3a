"""The classical model that ours is held against."""

import numpy as np

from finetune_pricer import ItemDataset


def ridge_mae(train: ItemDataset, test: ItemDataset) -> float:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline, make_union

    words = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True)
    characters = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 4), min_df=3, sublinear_tf=True)
    model = make_pipeline(make_union(words, characters), Ridge(alpha=1.0))
    model.fit([item.text for item in train], np.log1p(train.prices))
    guesses = np.expm1(model.predict([item.text for item in test]))
    return float(np.abs(guesses - test.prices).mean())
