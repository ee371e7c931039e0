from .backbones import BACKBONES as BACKBONES
from .backbones import PRETRAINED as PRETRAINED
from .data import DATASETS as DATASETS
from .errors import InputError as InputError
from .library import PROTOCOLS as PROTOCOLS
from .library import compare as compare
from .library import load_records as load_records
from .library import run as run
from .methods import METHODS as METHODS
from .report.leaderboard import leaderboard as leaderboard

__version__: str
