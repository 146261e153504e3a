#!/bin/sh
# The server as a process of this machine, until Ctrl-C or its time limit.
# Its folder outlives it: started again, it goes on with its jobs.
set -eu
: "${FINETUNE_PRICER_SERVER_KEY:?set it to what clients must send}"
exec {{ process }}
