from .benchmark import as_avalanche_benchmark as as_avalanche_benchmark
from .distillation_plugin import LogitNetwork as LogitNetwork
from .distillation_plugin import distillation_plugin as distillation_plugin
from .distillation_plugin import staged_strategy as staged_strategy
