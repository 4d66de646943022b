#!/usr/bin/env bash
# Brings the realm of a running Keycloak to what keycloak/ImageProcessor-realm.json says. See --help.
set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

usage() {
  cat << 'TEXT'
usage: scripts/setup_keycloak.sh [--without-demo-users]

Makes the realm ImageProcessor with its client, roles and demo users on a running Keycloak, from
keycloak/ImageProcessor-realm.json. Run again, it repairs what is missing or different and leaves alone what it does not
know of; with nothing to repair it changes nothing.

  KEYCLOAK_URL              where Keycloak answers              http://localhost:8080
  KEYCLOAK_ADMIN            an administrator of it              admin
  KEYCLOAK_ADMIN_PASSWORD   their password                      admin
  KEYCLOAK_ADMIN_PASSWORD_FILE   or the file that holds it
  KEYCLOAK_REALM            another name for the realm          ImageProcessor
  TLS_CA_FILE               CAs of its certificate, beside the system's
  GATEWAY_PUBLIC_URL        one more address that browsers see the gateway at, for redirects and CORS

--without-demo-users leaves out user, other and admin-user, whose password is known to everybody.
TEXT
}

die() {
  printf 'setup_keycloak.sh: %s\n' "$*" >&2
  exit 1
}

case ${1:-} in -h | --help)
  usage
  exit 0
  ;;
esac
for argument in "$@"; do
  [ "$argument" = --without-demo-users ] || die "unknown option $argument (see --help)"
done
command -v python3 > /dev/null || die 'needs python3'

if [ -n "${KEYCLOAK_ADMIN_PASSWORD_FILE:-}" ]; then
  [ -r "$KEYCLOAK_ADMIN_PASSWORD_FILE" ] || die "KEYCLOAK_ADMIN_PASSWORD_FILE: cannot read $KEYCLOAK_ADMIN_PASSWORD_FILE"
  KEYCLOAK_ADMIN_PASSWORD=$(cat "$KEYCLOAK_ADMIN_PASSWORD_FILE")
fi

export KEYCLOAK_URL=${KEYCLOAK_URL:-http://localhost:8080} KEYCLOAK_ADMIN=${KEYCLOAK_ADMIN:-admin}
export KEYCLOAK_ADMIN_PASSWORD=${KEYCLOAK_ADMIN_PASSWORD:-admin} KEYCLOAK_REALM=${KEYCLOAK_REALM:-} GATEWAY_PUBLIC_URL=${GATEWAY_PUBLIC_URL:-}
exec python3 "$HERE/../keycloak/apply_realm.py" "$@"
