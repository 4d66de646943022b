#!/usr/bin/env bash
# The programs behind the native services: Debian's packages, MinIO from source, Keycloak's distribution. Everything is
# looked for first and made only once. Sourced by scripts/services.

# Not `latest`: a start must not depend on what was published this morning. MinIO's release tags are no Go versions, so
# the Go module proxy knows its commits only.
MINIO_VERSION=v0.0.0-20260212201848-7aac2a2c5b7c
KEYCLOAK_VERSION=26.4.7
MAVEN_COPY=org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy

MINIO=$CACHE/minio-$MINIO_VERSION/minio
KEYCLOAK=$CACHE/keycloak-$KEYCLOAK_VERSION

# pg_bin [MAJOR]: the folder of PostgreSQL's programs, which Debian keeps off PATH; of that version, else the newest
pg_bin() {
  local found
  found=$(find /usr/lib/postgresql -mindepth 3 -maxdepth 3 -path "*/${1:-*}/bin/postgres" 2> /dev/null | sort -V | tail -n 1)
  if [ -z "$found" ]; then found=$(command -v postgres) || return 1; fi
  dirname "$found"
}
rabbitmq_server() {   # Debian's own wrapper on PATH changes to the user rabbitmq, who may not read our folders
  local candidate
  for candidate in /usr/lib/rabbitmq/bin/rabbitmq-server "$(command -v rabbitmq-server)"; do
    if [ -x "$candidate" ]; then
      say "$candidate"
      return 0
    fi
  done
  return 1
}
java_is_new() {
  local version
  version=$("${JAVA_HOME:+$JAVA_HOME/bin/}java" -version 2>&1 | sed -nE 's/.*version "([0-9]+).*/\1/p;' | head -n 1) || return 1
  [ "${version:-0}" -ge 17 ]
}
go_is_new() {   # 1.21 is the first that fetches a newer toolchain by itself where it is told to
  local version
  version=$(go env GOVERSION 2> /dev/null | sed -nE 's/^go1\.([0-9]+).*/\1/p') || return 1
  [ "${version:-0}" -ge 24 ] || { [ "${version:-0}" -ge 21 ] && [ "$(go env GOTOOLCHAIN)" != local ]; }
}

# packages_for NAME: the packages that are missing for it, by Debian's names
packages_for() {
  case $1 in
    postgres) pg_bin > /dev/null || say postgresql ;;
    redis) if ! { command -v redis-server && command -v redis-cli; } > /dev/null; then say redis-server; fi ;;
    rabbitmq) rabbitmq_server > /dev/null || say rabbitmq-server ;;
    minio) [ -x "$MINIO" ] || command -v go > /dev/null || say golang-go ;;
    keycloak)
      java_is_new || say default-jre-headless
      [ -d "$KEYCLOAK" ] || command -v mvn > /dev/null || say maven
      ;;
  esac
}

install_packages() {   # NAME…
  local name missing=()
  mapfile -t missing < <(
    command -v curl > /dev/null || say curl
    for name in "$@"; do packages_for "$name"; done | sort -u
  )
  [ ${#missing[@]} -gt 0 ] || return 0
  if [ "$(id -u)" != 0 ] || ! command -v apt-get > /dev/null; then
    die "missing: ${missing[*]} (Debian's names): install them, with their services disabled, and run this again"
  fi
  say "installing ${missing[*]} (apt-get; log in $STATE/apt.log)"
  # A subshell, so that the daemons' ban is lifted by its trap however the installation ends.
  (
    forbid_daemons
    trap allow_daemons EXIT
    export DEBIAN_FRONTEND=noninteractive
    apt-get -o DPkg::Lock::Timeout=300 update &&
      apt-get -o DPkg::Lock::Timeout=300 install -y --no-install-recommends "${missing[@]}"
  ) > "$STATE/apt.log" 2>&1 < /dev/null 9>&- || {
    log_end "$STATE/apt.log" >&2
    die "apt-get failed: see $STATE/apt.log"
  }
  keep_from_boot "${missing[@]}"
}

# Debian's packages start their daemons, on our ports, unless this file says no.
POLICY=/usr/sbin/policy-rc.d
forbid_daemons() {
  if [ -e "$POLICY" ]; then cp -p "$POLICY" "$STATE/policy-rc.d"; fi
  printf '#!/bin/sh\nexit 101\n' > "$POLICY.new"
  chmod 755 "$POLICY.new"
  mv -f "$POLICY.new" "$POLICY"
}
allow_daemons() {
  if [ -e "$STATE/policy-rc.d" ]; then
    cp -p "$STATE/policy-rc.d" "$POLICY.new" && mv -f "$POLICY.new" "$POLICY" && rm -f "$STATE/policy-rc.d"
  else
    rm -f "$POLICY"
  fi
}
# keep_from_boot PACKAGE…: else the next boot starts what was only installed to be started here
keep_from_boot() {
  local package
  [ -d /run/systemd/system ] || return 0
  for package in "$@"; do
    case $package in postgresql | redis-server | rabbitmq-server) systemctl disable "$package" > /dev/null 2>&1 || true ;; esac
  done
}

build_minio() {
  local log=$STATE/minio/build.log
  if [ -x "$MINIO" ]; then return 0; fi
  go_is_new || die 'minio: building it needs Go 1.24 or newer; install that and run this again'
  say "minio: building $MINIO_VERSION with $(go env GOVERSION), once; this takes some minutes (log in $log)"
  mkdir -p "$CACHE/build"
  (
    if [ -z "${HOME:-}" ]; then export GOPATH=$CACHE/go GOCACHE=$CACHE/go/build; fi
    GOBIN=$CACHE/build CGO_ENABLED=0 GOWORK=off go install -ldflags '-s -w' "github.com/minio/minio@$MINIO_VERSION"
  ) > "$log" 2>&1 < /dev/null 9>&- || {
    log_end "$log" >&2
    die "minio: the build failed: see $log"
  }
  mkdir -p "$(dirname "$MINIO")"
  mv "$CACHE/build/minio" "$MINIO"
}

fetch_keycloak() {
  local log=$STATE/keycloak/fetch.log zip=keycloak-quarkus-dist-$KEYCLOAK_VERSION.zip new=$CACHE/build/keycloak
  if [ -d "$KEYCLOAK" ]; then return 0; fi
  say "keycloak: fetching $KEYCLOAK_VERSION with Maven, once (log in $log)"
  rm -rf "$new"
  mkdir -p "$new"
  {
    (cd "$new" && mvn -B -ntp "$MAVEN_COPY" "-Dartifact=org.keycloak:keycloak-quarkus-dist:$KEYCLOAK_VERSION:zip" "-DoutputDirectory=$new") &&
      python3 -m zipfile -e "$new/$zip" "$new" &&
      chmod +x "$new/keycloak-$KEYCLOAK_VERSION/bin/"*.sh
  } > "$log" 2>&1 < /dev/null 9>&- || {
    log_end "$log" >&2
    die "keycloak: it could not be fetched: see $log"
  }
  # The programs are renamed into place when they are whole; their data lives with that of the others.
  ln -s ../services/keycloak/data "$new/keycloak-$KEYCLOAK_VERSION/data"
  mv "$new/keycloak-$KEYCLOAK_VERSION" "$KEYCLOAK"
  rm -rf "$new"
}
