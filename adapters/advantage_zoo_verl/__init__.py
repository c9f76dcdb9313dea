"""verl: every estimator of the zoo under ``algorithm.adv_estimator``, in the stock trainer.

verl loads this module in each of its processes: 0.9 through the entry-point group ``verl.plugins``, 0.7.1 and 0.8.0
through ``VERL_USE_EXTERNAL_MODULES=advantage_zoo_verl``. It imports no array library: what it does to
verl stands in :mod:`advantage_zoo_verl.points`, and is done when verl itself imports these modules.
"""

import logging

try:
    from advantage_zoo_verl.points import BINDING

    BINDING.bind()
except Exception as error:
    # verl passes over a plugin's Exception without a word (verl/__init__.py:76), and fails much later.
    message = f"advantage-zoo could not bind itself to verl ({type(error).__name__}: {error})."
    logging.getLogger(__name__).error(message)
    raise SystemExit(message) from error
