#!/bin/bash
{{ directives }}
# Balsam made this script for batch job {{ batch_job }} from the template of its site.

{{ environment }}
export PATH={{ balsam_bin }}:"$PATH"

# Put here what the jobs need: modules to load, variables to set. This runs once in each
# allocation; what only one app needs belongs into the envscript of the app.

exec {{ launcher }}
