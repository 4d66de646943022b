#!/bin/sh
# The production stack's passwords: makes those that are missing, and hands each service the files it reads, and only those.
#   make          what the service `secrets` does at each start
#   show [NAME]   prints them all, or one
# /secrets holds one file a password; /for/SERVICE is what that service sees as /run/secrets.
set -eu

NAMES="postgres_password owner_database_password app_database_password keycloak_database_password redis_password \
app_redis_password rabbitmq_password app_rabbitmq_password minio_password app_minio_password keycloak_admin_password \
grafana_password"
# What the programs may do in Redis: the same as common/adapters/redis/accounts.py, which a test compares. Redis has no disk here, so
# its users are in the file that it starts with.
REDIS_RULES="~image:* ~LIMITS:* ~image-processor:check &images:final \
+get +set +pttl +time +exists +incrby +rename +eval +evalsha +script|load +script|exists +publish +subscribe +unsubscribe \
+ping +info +select +client|setinfo"

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
    # Made by a version whose programs owned the database: that password is the owner's, and the programs get another.
    # It handed out nothing for `migrate`: else the owner's is missing because somebody wants another.
    if [ -s /for/app/postgres_url ] && [ ! -e /for/migrate/postgres_url ] &&
        [ -s /secrets/app_database_password ] && [ ! -s /secrets/owner_database_password ]; then
        mv /secrets/app_database_password /secrets/owner_database_password
    fi
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
    put /for/postgres/owner_database_password "$owner_database_password"
    put /for/postgres/keycloak_database_password "$keycloak_database_password"
    put /for/redis/password "$redis_password"
    put /for/redis/users.acl "user default on >$redis_password ~* &* +@all
user image_processor_app on >$app_redis_password $REDIS_RULES
"
    put /for/rabbitmq/rabbitmq.conf "default_user = image_processor
default_pass = $rabbitmq_password"
    put /for/minio/password "$minio_password"
    put /for/keycloak/keycloak.conf "db-password=$keycloak_database_password
bootstrap-admin-username=admin
bootstrap-admin-password=$keycloak_admin_password"
    put /for/grafana/password "$grafana_password"
    put /for/migrate/postgres_url "postgresql://image_processor:$owner_database_password@postgres:5432/image_processor"
    for folder in /for/app /for/accounts; do
        put "$folder/postgres_url" "postgresql://image_processor_app:$app_database_password@postgres:5432/image_processor"
        put "$folder/redis_url" "redis://image_processor_app:$app_redis_password@redis:6379/0"
        put "$folder/rabbitmq_url" "amqp://image_processor_app:$app_rabbitmq_password@rabbitmq:5672/"
        put "$folder/minio_access_key" image_processor_app
        put "$folder/minio_secret_key" "$app_minio_password"
    done
    put /for/accounts/postgres_admin_url "postgresql://postgres:$postgres_password@postgres:5432/postgres"
    put /for/accounts/postgres_owner_url "postgresql://image_processor:$owner_database_password@postgres:5432/image_processor"
    put /for/accounts/rabbitmq_admin_url "http://image_processor:$rabbitmq_password@rabbitmq:15672"
    put /for/accounts/minio_admin_access_key image_processor
    put /for/accounts/minio_admin_secret_key "$minio_password"
    # Of earlier versions.
    rm -f /for/postgres/app_database_password /for/redis/redis.conf
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
