"""Ask crowd-kit about votes: run by `label_models.py` with an interpreter that has it.

    python benchmarks/crowd_peer.py VOTES.npz MODEL OUT.npy

VOTES has `item`, `annotator` and `label` (0, 1 or 2), [votes]; OUT gets P(label 0) and half of P(label 1) of each item.
"""

import sys

import numpy as np


def main() -> None:
    """Fit the model that is named and write what it believes."""
    import pandas as pd
    from crowdkit.aggregation import DawidSkene, OneCoinDawidSkene

    votes = np.load(sys.argv[1])
    frame = pd.DataFrame({"task": votes["item"], "worker": votes["annotator"], "label": votes["label"]})
    fitter = (DawidSkene if sys.argv[2] == "dawid-skene" else OneCoinDawidSkene)(n_iter=1000)
    told = fitter.fit_predict_proba(frame).sort_index().reindex(columns=[0, 1, 2], fill_value=0.0).to_numpy()
    np.save(sys.argv[3], told[:, 0] + told[:, 1] / 2)


if __name__ == "__main__":
    main()
