"""Commands whose arguments lie on a real S3 server."""

from pathlib import Path
from typing import Annotated

import pandas as pd
import pytest
from object_storage_server import contents, files, forget_connections

from ltdiff.cli import run_ltdiff
from ltdiff.commands.command_line import IN_PLACE, run
from ltdiff.data.manifest import read_hu, read_manifest
from ltdiff.dicom.series import find_series
from ltdiff.system.commit_object import COMMITTED, WRITING
from ltdiff.system.object_storage import list_objects, put_file, write_object
from ltdiff.system.remote_input import fetch
from ltdiff.system.storage_url import Url
