"""The program of a registered part of a model in MLflow. It lies beside the part's files; nothing is unpickled.

MLflow alone imports this, by `mlflow.pyfunc.load_model` and `mlflow models serve`.
"""

from mlflow.models import set_model
from mlflow.pyfunc import PythonModel

from ltdiff.registry.part_model import PartModel


class ServedPart(PartModel, PythonModel):
    """The same for MLflow, which would warn of the types of a `predict` that stood here: there is a signature."""


set_model(ServedPart())
