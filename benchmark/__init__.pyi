from .api import PROTOCOLS as PROTOCOLS
from .api import compare as compare
from .api import leaderboard as leaderboard
from .api import load_records as load_records
from .api import plot as plot
from .api import run as run
from .api import run_grid as run_grid
from .backbones import BACKBONES as BACKBONES
from .backbones import PRETRAINED as PRETRAINED
from .data import DATASETS as DATASETS
from .errors import InputError as InputError
from .methods import METHODS as METHODS

__version__: str
