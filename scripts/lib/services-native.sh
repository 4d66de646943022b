#!/usr/bin/env bash
# The services as processes of this machine. For each: the ports it takes, how it is launched, when it is ready, and how it
# is asked to stop. Sourced by scripts/services.

POSTGRES_PORT=$((5432 + SHIFT))
REDIS_PORT=$((6379 + SHIFT))
AMQP_PORT=$((5672 + SHIFT)) RABBITMQ_CONSOLE_PORT=$((15672 + SHIFT)) RABBITMQ_METRICS_PORT=$((15692 + SHIFT))
RABBITMQ_NODES_PORT=$((25672 + SHIFT)) EPMD_PORT=$((4369 + SHIFT))
MINIO_PORT=$((9000 + SHIFT)) MINIO_CONSOLE_PORT=$((9001 + SHIFT))
ports_of() {
  case $1 in
    postgres) say "$POSTGRES_PORT" ;;
    redis) say "$REDIS_PORT" ;;
    rabbitmq) printf '%s\n' "$AMQP_PORT" "$RABBITMQ_CONSOLE_PORT" "$RABBITMQ_METRICS_PORT" "$RABBITMQ_NODES_PORT" ;;
    minio) printf '%s\n' "$MINIO_PORT" "$MINIO_CONSOLE_PORT" ;;
    keycloak) printf '%s\n' 8080 "$KEYCLOAK_MANAGEMENT_PORT" ;;
  esac
}
KEYCLOAK_MANAGEMENT_PORT=9990   # its default is MinIO's port

# Loopback is never behind a proxy, whatever the environment says.
get() { curl --noproxy '*' -fsS -o /dev/null --max-time 5 "$@" 2> /dev/null; }

# ---------------------------------------------------------------- PostgreSQL
# It refuses to run as root, and the user it then runs as may not be let into root's folders.
if [ "$(id -u)" = 0 ]; then AS_POSTGRES=(setpriv --reuid=postgres --regid=postgres --init-groups); else AS_POSTGRES=(env); fi
pg_home() {
  local home=$STATE/postgres
  if [ "$(id -u)" = 0 ] && ! "${AS_POSTGRES[@]}" test -x "$home"; then home=/var/lib/image-processor/$(cksum <<< "$STATE" | cut -d ' ' -f 1); fi
  say "$home"
}

# dead PID: a crashed server that its parent has not looked after yet still has its number, and PostgreSQL takes the number
# in its lock files for a running server. What was left of the server's children has been cleared by now.
dead() {
  local now
  [ -n "$1" ] && { ! read -ra now < <(stat_of "$1") || [ "${now[0]}" = Z ]; }
}

launch_postgres() {
  local home bin made file
  if [ "$(id -u)" = 0 ] && ! id postgres > /dev/null 2>&1; then die 'postgres: as root it needs a user "postgres" to run as'; fi
  home=$(pg_home)
  mkdir -p "$home"
  made=$(cat "$home/data/PG_VERSION" 2> /dev/null || true)
  bin=$(pg_bin ${made:+"$made"}) || bin=$(pg_bin)
  if [ "$(id -u)" = 0 ]; then
    chmod 755 "$home"
    install -d -o postgres -g postgres -m 755 "$home/run" "$home/new"
  else
    mkdir -p "$home/run" "$home/new"
  fi
  if [ -z "$made" ]; then
    # Made aside and renamed, so that an interrupted initdb is not taken for a database.
    rm -rf "$home/new/data"
    echo image_processor > "$home/new/password"
    (
      cd "$home/new" &&
        "${AS_POSTGRES[@]}" "$bin/initdb" -D "$home/new/data" -U image_processor --pwfile="$home/new/password" \
          --auth=scram-sha-256 --encoding=UTF8 --locale=C &&
        "${AS_POSTGRES[@]}" "$bin/postgres" --single -D "$home/new/data" postgres <<< 'CREATE DATABASE image_processor'
    ) > "$STATE/postgres/initdb.log" 2>&1 9>&- || {
      log_end "$STATE/postgres/initdb.log" >&2
      die "postgres: the database could not be made: see $STATE/postgres/initdb.log"
    }
    mv -T "$home/new/data" "$home/data"
  fi
  for file in "$home/data/postmaster.pid" "$home/run/.s.PGSQL.$POSTGRES_PORT.lock"; do
    if dead "$(head -n 1 "$file" 2> /dev/null)"; then rm -f "$file"; fi
  done
  spawn postgres "$home/data" "${AS_POSTGRES[@]}" "$bin/postgres" -D "$home/data" -c listen_addresses=127.0.0.1 -p "$POSTGRES_PORT" -k "$home/run"
}

ready_postgres() {
  PGPASSWORD=image_processor PGCONNECT_TIMEOUT=3 timeout 5 \
    "$(pg_bin)/psql" -X -q -h 127.0.0.1 -p "$POSTGRES_PORT" -U image_processor -d image_processor -c 'SELECT 1' > /dev/null 2>&1
}

# ---------------------------------------------------------------- Redis
launch_redis() {
  spawn redis "$STATE/redis/data" redis-server --bind 127.0.0.1 --port "$REDIS_PORT" --dir "$STATE/redis/data" --appendonly yes --daemonize no
}
ready_redis() { [ "$(timeout 3 redis-cli -h 127.0.0.1 -p "$REDIS_PORT" ping 2> /dev/null)" = PONG ]; }

# ---------------------------------------------------------------- RabbitMQ
launch_rabbitmq() {
  local dir=$STATE/rabbitmq
  # Erlang would start its port mapper by itself, on every address, and leave it running.
  if command -v epmd > /dev/null && ! port_taken $EPMD_PORT; then
    mkdir -p "$STATE/epmd"
    spawn epmd "$STATE/epmd" epmd -address 127.0.0.1 -port $EPMD_PORT
    await 10 port_taken $EPMD_PORT || die 'rabbitmq: epmd, which it needs, did not start'
  fi
  cat > "$dir/rabbitmq.conf" << CONF
listeners.tcp.1 = 127.0.0.1:$AMQP_PORT
management.tcp.ip = 127.0.0.1
management.tcp.port = $RABBITMQ_CONSOLE_PORT
prometheus.tcp.ip = 127.0.0.1
prometheus.tcp.port = $RABBITMQ_METRICS_PORT
CONF
  echo '[rabbitmq_management,rabbitmq_prometheus].' > "$dir/enabled_plugins"
  # RUNNING_UNDER_SYSTEMD makes the start script become the server, instead of a shell that waits for it, so that the pid is
  # the server's. No busy waiting: it would take from two cores what the others need.
  spawn rabbitmq "$dir/data" RUNNING_UNDER_SYSTEMD=true ERL_EPMD_ADDRESS=127.0.0.1 ERL_EPMD_PORT=$EPMD_PORT \
    RABBITMQ_NODENAME=image-processor@localhost RABBITMQ_NODE_IP_ADDRESS=127.0.0.1 RABBITMQ_DIST_PORT=$RABBITMQ_NODES_PORT \
    RABBITMQ_CONF_ENV_FILE=/dev/null RABBITMQ_CONFIG_FILE="$dir/rabbitmq.conf" RABBITMQ_ADVANCED_CONFIG_FILE="$dir/advanced.config" \
    RABBITMQ_ENABLED_PLUGINS_FILE="$dir/enabled_plugins" RABBITMQ_MNESIA_BASE="$dir/data" RABBITMQ_LOG_BASE="$dir" RABBITMQ_LOGS=- \
    RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS='-kernel inet_dist_use_interface {127,0,0,1} +sbwt none +sbwtdcpu none +sbwtdio none' \
    "$(rabbitmq_server)"
}
ready_rabbitmq() {
  get -u guest:guest "http://127.0.0.1:$RABBITMQ_CONSOLE_PORT/api/health/checks/port-listener/$AMQP_PORT" && get "http://127.0.0.1:$RABBITMQ_METRICS_PORT/metrics"
}

# ---------------------------------------------------------------- MinIO
prepare_minio() { build_minio; }
launch_minio() {
  spawn minio "$STATE/minio/data" MINIO_ROOT_USER=minioadmin MINIO_ROOT_PASSWORD=minioadmin MINIO_UPDATE=off \
    "$MINIO" server --address "127.0.0.1:$MINIO_PORT" --console-address "127.0.0.1:$MINIO_CONSOLE_PORT" "$STATE/minio/data"
}
ready_minio() { get "http://127.0.0.1:$MINIO_PORT/minio/health/ready" && get "http://127.0.0.1:$MINIO_CONSOLE_PORT/"; }

# ---------------------------------------------------------------- Keycloak
REALM=$ROOT/keycloak/ImageProcessor-realm.json
prepare_keycloak() { fetch_keycloak; }
launch_keycloak() {
  local dir=$STATE/keycloak
  if [ ! -d "$dir/data/h2" ]; then cksum < "$REALM" > "$dir/realm.cksum"; fi
  rm -rf "$dir/data/import"
  mkdir -p "$dir/data/import"
  cp "$REALM" "$dir/data/import/"
  # The first compiler stage alone and the simple collector: half the start's time on two cores, and less memory.
  spawn keycloak "$dir" ${JAVA_HOME:+"JAVA_HOME=$JAVA_HOME"} \
    KC_BOOTSTRAP_ADMIN_USERNAME=admin KC_BOOTSTRAP_ADMIN_PASSWORD=admin KC_HEALTH_ENABLED=true \
    JAVA_OPTS_KC_HEAP='-Xms128m -Xmx512m' JAVA_OPTS_APPEND='-XX:TieredStopAtLevel=1' JAVA_OPTS_GC=-XX:+UseSerialGC \
    "$KEYCLOAK/bin/kc.sh" start-dev --import-realm --http-host=127.0.0.1 --http-port=8080 \
    --http-management-port=$KEYCLOAK_MANAGEMENT_PORT --hostname=http://localhost:8080
}
ready_keycloak() {
  get "http://127.0.0.1:$KEYCLOAK_MANAGEMENT_PORT/health/ready" && get http://127.0.0.1:8080/realms/master
}
# Keycloak imports a realm only once. When the file has changed since, what is new in it is put into the realm.
settled_keycloak() {
  local now
  now=$(cksum < "$REALM")
  [ "$now" != "$(cat "$STATE/keycloak/realm.cksum" 2> /dev/null)" ] || return 0
  say 'keycloak: the realm file has changed: bringing the realm up to date'
  KEYCLOAK_URL=http://127.0.0.1:8080 KEYCLOAK_ADMIN=admin KEYCLOAK_ADMIN_PASSWORD=admin KEYCLOAK_REALM='' "$HERE/setup_keycloak.sh" || return 1
  say "$now" > "$STATE/keycloak/realm.cksum"
}

# ---------------------------------------------------------------- all of them
has() { declare -F "$1" > /dev/null; }

native_runs_any() {
  local name
  for name in "${ALL[@]}"; do if pid_of "$name" > /dev/null; then return 0; fi; done
  return 1
}

crashed_or_ready() { gone "$1" || "ready_$1"; }

start_one() {   # NAME
  local name=$1 port began=$SECONDS word=up log=$STATE/$1/log
  mkdir -p "$STATE/$name/data"
  if pid_of "$name" > /dev/null; then
    word='up already'
  else
    clear_leftovers "$name"
    for port in $(ports_of "$name"); do
      if port_taken "$port"; then die "$name: port $port is taken $(holder "$port"): stop that first"; fi
    done
    if has "prepare_$name"; then "prepare_$name"; fi
    began=$SECONDS
    "launch_$name"
  fi
  if ! await 240 crashed_or_ready "$name" || gone "$name"; then
    log_end "$log" >&2
    if gone "$name"; then die "$name ended while it started: see $log"; fi
    die "$name runs but does not answer after $((SECONDS - began)) s: see $log"
  fi
  if has "settled_$name"; then "settled_$name" || die "$name: see above"; fi
  if [ "$word" = up ]; then word="up in $((SECONDS - began)) s"; fi
  line "$name" "$word"
}

native_up() {
  local name jobs=() failed=0
  lock_state
  install_packages "$@"
  for name in "$@"; do
    start_one "$name" &
    jobs+=($!)
  done
  for name in "${jobs[@]}"; do wait "$name" || failed=1; done
  return $failed
}

stop_one() {   # NAME
  local name=$1 signal=TERM was=true home
  pid_of "$name" > /dev/null || was=false
  # To PostgreSQL, TERM means to wait until every client has gone.
  if [ "$name" = postgres ]; then signal=INT; fi
  stop "$name" $signal 30
  if [ "$name" = rabbitmq ]; then stop epmd TERM 5; fi
  if $PURGE; then
    if [ "$name" = postgres ]; then
      home=$(if id postgres > /dev/null 2>&1; then pg_home; else say "$STATE/postgres"; fi)
      rm -rf "$home"
      rmdir /var/lib/image-processor 2> /dev/null || true
    fi
    rm -rf "${STATE:?}/$name"
    if [ "$name" = rabbitmq ]; then rm -rf "$STATE/epmd"; fi
  fi
  if $was; then line "$name" down "stopped$(if $PURGE; then say ', data removed'; fi)"; else line "$name" down "was not running$(if $PURGE; then say ', data removed'; fi)"; fi
}

native_down() {
  local name jobs=() failed=0
  lock_state
  for name in "$@"; do
    stop_one "$name" &
    jobs+=($!)
  done
  for name in "${jobs[@]}"; do wait "$name" || failed=1; done
  return $failed
}

native_restart() { native_down "$@" && native_up "$@"; }

native_kill() {
  local name pid
  lock_state
  for name in "$@"; do
    pid=$(pid_of "$name") || die "$name is not running"
    kill -KILL "$pid"
    await 10 gone "$name" || die "$name: process $pid does not go away"
    line "$name" down "killed (pid $pid)"
  done
}

native_status() {
  local name port taken pid all=0
  for name in "$@"; do
    if pid=$(pid_of "$name"); then
      if "ready_$name"; then
        line "$name" up "$(describe "$name")   pid $pid"
        continue
      fi
      line "$name" busy "pid $pid runs but does not answer: see $STATE/$name/log"
    else
      taken=''
      for port in $(ports_of "$name"); do if port_taken "$port"; then taken="; port $port is taken $(holder "$port")"; fi; done
      line "$name" down "not running$taken"
    fi
    all=1
  done
  return $all
}
