"""`PYTHONPATH=tests python -m oracle`: every question there is to the shipped contract, asked of Cedar as well.

Sender, receiver, service, basis, stage and field: about six million. It tells each pair of kinds, and ends with 1 where
the two differ.
"""

from __future__ import annotations

import sys
import time

from oracle.cedar import STAGES
from oracle.enumeration import PAIRS, differences
from support.contract_files import shipped

from contracts.vocabulary import Basis, Field, ServiceType


def main() -> int:
    """Ask, tell, and say by the exit code whether they agree."""
    each = len(ServiceType) * len(Basis) * len(STAGES) * len(Field)
    began, found = time.monotonic(), 0
    for number, (sender, receiver) in enumerate(PAIRS, start=1):
        for difference in differences(shipped(), sender, receiver):
            found += 1
            print(difference)
        if number % 12 == 0:
            told = f"{number * each:>9} questions, {found} differences, {time.monotonic() - began:.0f} s"
            print(f"{sender.value:28} {told}", flush=True)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
