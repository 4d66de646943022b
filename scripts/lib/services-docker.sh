#!/usr/bin/env bash
# The services as containers of docker-compose.dev.yml. Sourced by scripts/services.

# The time limit is for a configured engine that is not there: the client alone would wait for minutes.
docker_answers() {
  command -v docker > /dev/null && timeout 5 docker info > /dev/null 2>&1 && timeout 5 docker compose version > /dev/null 2>&1
}

compose() { docker compose -f "$ROOT/docker-compose.dev.yml" "$@"; }

docker_up() {
  local name
  compose up -d --wait --wait-timeout 300 "$@" || die 'not all containers became healthy: see docker compose -f docker-compose.dev.yml logs'
  for name in "$@"; do line "$name" up; done
}

docker_down() {
  local volumes=() name
  if [ $# = ${#ALL[@]} ]; then
    if $PURGE; then volumes=(--volumes); fi
    compose down ${volumes[@]+"${volumes[@]}"}
    return
  fi
  compose rm --stop --force "$@"
  if $PURGE; then
    for name in "$@"; do docker volume rm --force "image-processor-dev_$name" > /dev/null; done
  fi
}

docker_restart() {
  compose stop "$@"
  docker_up "$@"
}

docker_kill() { compose kill --signal SIGKILL "$@"; }

docker_status() {
  local name id state all=0
  for name in "$@"; do
    id=$(compose ps -a -q "$name" 2> /dev/null || true)
    state=$([ -z "$id" ] || docker inspect -f '{{.State.Status}} {{with .State.Health}}{{.Status}}{{end}}' "$id")
    if [ "$state" = 'running healthy' ]; then
      line "$name" up
    else
      line "$name" down "${state:-no container}"
      all=1
    fi
  done
  return $all
}
