"""`python -m bam_fused` is the command line `bam-fused`."""

import sys

from bam_fused.cli import main

sys.exit(main())
