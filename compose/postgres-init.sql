-- Runs once, on an empty volume: a database and a role without further rights for the service, and the same for Keycloak.
\set app_password `cat /run/secrets/app_database_password`
\set keycloak_password `cat /run/secrets/keycloak_database_password`

CREATE ROLE image_processor LOGIN PASSWORD :'app_password';
CREATE DATABASE image_processor OWNER image_processor;
REVOKE ALL ON DATABASE image_processor FROM PUBLIC;

CREATE ROLE keycloak LOGIN PASSWORD :'keycloak_password';
CREATE DATABASE keycloak OWNER keycloak;
REVOKE ALL ON DATABASE keycloak FROM PUBLIC;
