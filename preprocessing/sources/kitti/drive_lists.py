"""Training, validation and test drives of KITTI raw. No drive is in two splits."""

# The 28 drives with the 697 test images of Eigen, Puhrsch and Fergus, "Depth Map Prediction from a
# Single Image using a Multi-Scale Deep Network", NIPS 2014.
EIGEN_TEST = frozenset(
    f"2011_{day}_drive_{number}"
    for day, numbers in {
        "09_26": "0002 0009 0013 0020 0023 0027 0029 0036 0046 0048 0052 0056 0059 0064 0084 0086 "
        "0093 0096 0101 0106 0117",
        "09_28": "0002",
        "09_29": "0071",
        "09_30": "0016 0018 0027",
        "10_03": "0027 0047",
    }.items()
    for number in numbers.split()
)

# Validation drives of KITTI's depth benchmark (Uhrig et al., "Sparsity Invariant CNNs", 3DV 2017)
# without those of the Eigen test split.
VALIDATION = frozenset(
    f"2011_{day}_drive_{number}"
    for day, numbers in {
        "09_26": "0005 0079 0095 0113",
        "09_28": "0037",
        "09_29": "0026",
    }.items()
    for number in numbers.split()
)


def split_of_drive(drive: str) -> str:
    """Split of a drive such as ``2011_09_26_drive_0052``: ``train``, ``val`` or ``test``."""
    if drive in EIGEN_TEST:
        return "test"
    return "val" if drive in VALIDATION else "train"
