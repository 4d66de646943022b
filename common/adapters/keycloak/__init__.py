"""Access tokens of a Keycloak realm: `tokens` judges them, `keys` reads the realm's key set, `remote` fetches and keeps it."""

from common.adapters.keycloak.remote import RemoteJwks
from common.adapters.keycloak.tokens import KeycloakTokenVerifier

__all__ = ["KeycloakTokenVerifier", "RemoteJwks"]
