#!/bin/sh
# The server as a job of the Hugging Face Hub, billed by the minute until it is cancelled or its time is up.
# What stands behind this script's name goes to `hf jobs run`: `sh hf-jobs.sh --dry-run` starts nothing.
#   once, before:   hf buckets create {{ bucket }} --private --exist-ok
{% if "/" not in bucket %}
#   and write its owner before its name, here and below: me/{{ bucket }}
{% endif %}
#   its address:    https://JOB_ID--{{ inner_port }}.hf.jobs/v1
#   its log:        hf jobs logs JOB_ID
#   to end it:      hf jobs cancel JOB_ID
# The port is public: the server's own key is all that guards it. The key comes from the environment.
set -eu
: "${FINETUNE_PRICER_SERVER_KEY:?set it to what clients must send, such as the output of: openssl rand -hex 32}"
exec hf jobs run "$@" --detach \
  --flavor {{ flavor }} \
  --timeout {{ seconds }}s \
  --expose-public {{ inner_port }} \
  --secrets FINETUNE_PRICER_SERVER_KEY \
  --name finetune-pricer-{{ name }} \
  --label finetune-pricer={{ name }} \
  --label finetune-pricer-settings={{ settings }} \
  --volume hf://buckets/{{ bucket }}:{{ mount }} \
  {{ image }} -- \
  {{ container }}
