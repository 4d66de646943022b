-- Runs once, on an empty volume: a database and its owner for the service, and the same for Keycloak. What else there is to be is
-- made by the service `accounts`, at each start.
\set owner_password `cat /run/secrets/owner_database_password`
\set keycloak_password `cat /run/secrets/keycloak_database_password`

CREATE ROLE image_processor LOGIN PASSWORD :'owner_password';
CREATE DATABASE image_processor OWNER image_processor;
REVOKE ALL ON DATABASE image_processor FROM PUBLIC;

CREATE ROLE keycloak LOGIN PASSWORD :'keycloak_password';
CREATE DATABASE keycloak OWNER keycloak;
REVOKE ALL ON DATABASE keycloak FROM PUBLIC;
