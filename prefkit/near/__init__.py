"""Near-duplicates and overlap of texts, as pure functions of arrays.

    words      a text as hashes of its words or characters, and of runs of them
    minhash    texts that share most of their runs, found without comparing all with all
    jaccard    how much two texts share, exactly
    clusters   which rows hang together, given pairs worth looking at and a way to look
    vectors    the same for embeddings, by blocks of products
    coverage   how much of a benchmark's items a text holds

All hashes are our own and depend on the text alone, so what is found is the same on every machine, for every order of
the rows and however they are cut. A hash has 64 bits; that two runs of words share one by chance is left out of
account: among a thousand million runs the odds are one in forty.
"""
