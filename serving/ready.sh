#!/bin/bash
# Succeeds once every model of models.config has a version loaded: its metadata is 404 until then. Compose, the
# image and Kubernetes all ask by this, so that a model's name is written in models.config alone.
# The server's image has bash and no curl.
config=${1:-/config/models.config}
port=${2:-8501}

found=false
while read -r line; do
  [[ ${line%%#*} =~ (^|[[:space:]{])name:[[:space:]]*[\"\']([^\"\']+) ]] || continue
  found=true
  exec 3<>"/dev/tcp/127.0.0.1/$port" || exit 1
  printf 'GET /v1/models/%s/metadata HTTP/1.0\r\nHost: localhost\r\n\r\n' "${BASH_REMATCH[2]}" >&3
  read -r status <&3
  exec 3>&-
  [[ $status == *' 200 '* ]] || exit 1
done < "$config"
$found
