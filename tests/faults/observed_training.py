"""`ucn` whose training is observed: python observed_training.py FOLDER_OF_NOTES train ..."""

import sys
from pathlib import Path

from tests.faults.observer import Observer
from ucn.pipeline.main import main
from ucn.training import job

if __name__ == "__main__":
    job.work = Observer(Path(sys.argv[1])).watch(job.work)
    sys.exit(main(sys.argv[2:]))
