#!/bin/sh
# The production stack's passwords: makes those that are missing, and hands each service the files it reads, and only those.
#   make          what the service `secrets` does at each start
#   show [NAME]   prints them all, or one
# /secrets holds one file a password; /for/SERVICE is what that service sees as /run/secrets.
set -eu

NAMES="postgres_password app_database_password keycloak_database_password redis_password rabbitmq_password minio_password \
keycloak_admin_password grafana_password"

die() {
    echo "secrets: $*" >&2
    exit 1
}

# put FILE TEXT: readable for whatever user the service runs as, because no other service mounts the folder
put() {
    [ "$(cat "$1" 2> /dev/null)" = "$2" ] && return
    (umask 077 && printf '%s' "$2" > "$1.new" && chmod 444 "$1.new" && mv "$1.new" "$1")
}

random() { head -c 24 /dev/urandom | od -An -v -tx1 | tr -d ' \n'; }

make() {
    for name in $NAMES; do
        if [ ! -s "/secrets/$name" ]; then
            (umask 077 && random > "/secrets/$name.new" && mv "/secrets/$name.new" "/secrets/$name")
        fi
        value=$(cat "/secrets/$name")
        # They become part of URLs and configuration files.
        case $value in
            '' | *[!A-Za-z0-9._~-]*) die "$name: only letters, digits and . _ ~ - may be in it" ;;
        esac
        eval "$name=\$value"
    done
}

# shellcheck disable=SC2154 # make() assigns them
hand_out() {
    put /for/postgres/postgres_password "$postgres_password"
    put /for/postgres/app_database_password "$app_database_password"
    put /for/postgres/keycloak_database_password "$keycloak_database_password"
    put /for/redis/password "$redis_password"
    put /for/redis/redis.conf "requirepass $redis_password"
    put /for/rabbitmq/rabbitmq.conf "default_user = image_processor
default_pass = $rabbitmq_password"
    put /for/minio/password "$minio_password"
    put /for/keycloak/keycloak.conf "db-password=$keycloak_database_password
bootstrap-admin-username=admin
bootstrap-admin-password=$keycloak_admin_password"
    put /for/grafana/password "$grafana_password"
    put /for/app/postgres_url "postgresql://image_processor:$app_database_password@postgres:5432/image_processor"
    put /for/app/redis_url "redis://:$redis_password@redis:6379/0"
    put /for/app/rabbitmq_url "amqp://image_processor:$rabbitmq_password@rabbitmq:5672/"
    put /for/app/minio_access_key image_processor
    put /for/app/minio_secret_key "$minio_password"
}

case ${1:-} in
    make)
        make
        hand_out
        ;;
    show)
        for name in ${2:-$NAMES}; do
            [ -r "/secrets/$name" ] || die "there is no $name; the stack makes its passwords when it first starts"
            if [ $# -gt 1 ]; then cat "/secrets/$name"; else printf '%-28s %s' "$name" "$(cat "/secrets/$name")"; fi
            echo
        done
        ;;
    *) die "unknown command ${1:-}; there are make and show [NAME]" ;;
esac
