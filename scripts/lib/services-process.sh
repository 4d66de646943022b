#!/usr/bin/env bash
# Daemons of our own: started in a session each, remembered so that no other process is ever taken for one of them, and
# stopped. Nothing here knows which services there are. Sourced by scripts/services.

CACHE=${IMAGE_PROCESSOR_CACHE:-${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/image-processor}
case $CACHE in /*) ;; *) CACHE=$PWD/$CACHE ;; esac
STATE=$CACHE/services
case $SHIFT in
  0) ;;
  1000) STATE=$CACHE/services-beside ;;
  *) STATE=$CACHE/services-beside-$((SHIFT / 1000)) ;;
esac

# One `up` or `down` at a time: two would start the same daemon twice.
lock_state() {
  mkdir -p "$STATE"
  exec 9> "$STATE/.lock"
  flock -n 9 || {
    say 'services: another run of scripts/services is at work: waiting for it'
    flock 9
  }
}

boot_id() { cat /proc/sys/kernel/random/boot_id; }

# stat_of PID: its state, session and start time. The command's name before them may hold blanks and brackets.
stat_of() {
  local text fields
  text=$(cat "/proc/$1/stat" 2> /dev/null) || return 1
  read -ra fields <<< "${text##*) }"
  printf '%s %s %s\n' "${fields[0]}" "${fields[3]}" "${fields[19]}"
}

# remember NAME PID. A pid alone would, after a reboot or many forks, name somebody else's process.
remember() {
  local now
  read -ra now < <(stat_of "$2") || return 0
  printf '%s %s %s\n' "$2" "${now[2]}" "$(boot_id)" > "$STATE/$1/pid"
}

# recalled NAME: sets pid, started and boot of the last start; false if there was none
recalled() { pid='' started='' boot='' && { read -r pid started boot < "$STATE/$1/pid"; } 2> /dev/null && [ -n "$boot" ]; }

# pid_of NAME: the pid, if the very process that was remembered still runs
pid_of() {
  local pid started boot now
  recalled "$1" && [ "$boot" = "$(boot_id)" ] || return 1
  read -ra now < <(stat_of "$pid") || return 1
  [ "${now[0]:-Z}" != Z ] && [ "${now[2]}" = "$started" ] || return 1
  say "$pid"
}

# leftovers NAME: processes of the session that NAME leads or led. The kernel gives no new process the number of a
# session that still has members, unless it is that session's leader itself.
leftovers() {
  local pid started boot now other
  recalled "$1" && [ "$boot" = "$(boot_id)" ] || return 0
  if read -ra now < <(stat_of "$pid") && [ "${now[2]:-}" != "$started" ]; then return 0; fi
  for other in /proc/[0-9]*; do
    read -ra now < <(stat_of "${other#/proc/}") || continue
    if [ "${now[0]:-Z}" != Z ] && [ "${now[1]}" = "$pid" ] && [ "${now[2]}" -ge "$started" ]; then say "${other#/proc/}"; fi
  done
}

# spawn NAME DIRECTORY COMMAND…: in a session of its own, with nothing of the caller's: no terminal, no pipe to hold
# open, and of its environment (proxies, PG*, MINIO_*, RABBITMQ_* …) only what is named here.
spawn() {
  local name=$1 directory=$2 files
  shift 2
  if [ -f "$STATE/$name/log" ]; then mv -f "$STATE/$name/log" "$STATE/$name/log.1"; fi
  # Redis and RabbitMQ want more than the usual 1,024; Erlang's tables grow with the limit, so "unlimited" is no good.
  files=$(ulimit -Hn)
  if [ "$files" = unlimited ] || [ "$files" -gt 65536 ]; then files=65536; fi
  (
    local fd
    for fd in /proc/self/fd/*; do
      fd=${fd##*/}
      if [ "$fd" -gt 2 ] && [ "$fd" != 255 ]; then eval "exec $fd>&-"; fi
    done
    ulimit -Sn "$files"
    cd "$directory" || exit 1
    exec setsid env -i "PATH=$PATH:/usr/sbin:/sbin" "HOME=$STATE/$name" LANG=C.UTF-8 "$@" < /dev/null > "$STATE/$name/log" 2>&1
  ) &
  remember "$name" $!
}

# await SECONDS COMMAND…: polls until it is true
await() {
  local limit=$((SECONDS + $1))
  shift
  until "$@"; do
    [ $SECONDS -lt $limit ] || return 1
    sleep 0.2
  done
}

gone() { ! pid_of "$1" > /dev/null; }
no_leftovers() { [ -z "$(leftovers "$1")" ]; }

# clear_leftovers NAME: what a leader that crashed left behind would hold its ports and files
clear_leftovers() {
  local rest
  rest=$(leftovers "$1")
  [ -n "$rest" ] || return 0
  # PostgreSQL's children and the like end by themselves as soon as they notice; killing them first gains nothing.
  if await 5 no_leftovers "$1"; then return 0; fi
  # shellcheck disable=SC2046 # a list of numbers
  kill -KILL $(leftovers "$1") 2> /dev/null || true
  await 5 no_leftovers "$1" || die "$1: processes $(leftovers "$1" | tr '\n' ' ')of an earlier start do not go away"
}

# stop NAME SIGNAL SECONDS: the signal, then, after the time, SIGKILL
stop() {
  local pid
  if pid=$(pid_of "$1"); then
    kill "-$2" "$pid" 2> /dev/null || true
    if ! await "$3" gone "$1"; then
      say "$1: still running after $3 s, killed"
      kill -KILL "$pid" 2> /dev/null || true
      await 10 gone "$1" || die "$1: process $pid does not go away"
    fi
  fi
  clear_leftovers "$1"
  rm -f "$STATE/$1/pid"
}

port_taken() { (exec 3<> "/dev/tcp/127.0.0.1/$1") 2> /dev/null; }

# holder PORT: "by NAME (pid N)", where that can be found out
holder() {
  local users
  users=$(ss -Hltnp "sport = :$1" 2> /dev/null | sed -nE 's/.*users:\(\("([^"]+)",pid=([0-9]+).*/\1 (pid \2)/p' | head -n 1) || true
  if [ -n "$users" ]; then say "by $users"; else say 'by a program that this script did not start'; fi
}

# log_end FILE: its last lines, to be printed under an error
log_end() { tail -n 15 "$1" 2> /dev/null | cut -c1-300 | sed 's/^/    | /'; }
