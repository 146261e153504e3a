#!/bin/sh
# The server in a container of this machine, reachable from this machine only. Its folder is in a volume.
# The key comes from the environment: what stands in a command can be read by others.
#   its log:     docker logs finetune-pricer-{{ name }}
#   to end it:   docker rm --force finetune-pricer-{{ name }}
set -eu
: "${FINETUNE_PRICER_SERVER_KEY:?set it to what clients must send}"
exec docker run --detach --init \
  --name finetune-pricer-{{ name }} \
  --label finetune-pricer={{ name }} \
  --label finetune-pricer-settings={{ settings }} \
  --env FINETUNE_PRICER_SERVER_KEY \
  --publish 127.0.0.1:{{ port }}:{{ inner_port }} \
  --volume {{ volume }}:{{ mount }} \
{% if has_gpu %}
  --gpus all \
{% endif %}
  {{ image }} \
  {{ container }}
