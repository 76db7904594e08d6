"""Look through an archive of CT series: protocols, noise, sharpness, and which could be standardized to which.

    ray job submit --working-dir . -- python jobs/survey.py IN --out OUT --num_workers 16

IN and OUT must be absolute paths on storage that all nodes share. Submit it again to resume.
"""

import sys

from ltdiff.commands.command_line import run
from ltdiff.commands.survey_command import survey

if __name__ == "__main__":
    sys.exit(run(survey, about=__doc__))
