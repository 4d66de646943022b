"""How the routes of one image are called: without the framework's solving of dependencies, which takes longer than all else that
a status read does.

Their endpoints declare what they take, as all do, and the description is made from that. What is called here is the same, in the
same order: the token and its bearer's rate, the parameters, the image's id.
"""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute

from gateway.dependencies import caller_of, gateway_of, image_id_of
from gateway.parameters import only_known_parameters


class ImageRoute(APIRoute):
    """Its endpoint takes (caller: Caller, gateway: InGateway, image_id: ImageId, request: Request)."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        endpoint = self.endpoint

        async def handle(request: Request) -> Response:
            gateway = await gateway_of(request)
            caller = await caller_of(request, gateway)
            await only_known_parameters(request, caller)
            image_id = await image_id_of(request.path_params["id"])
            response: Response = await endpoint(caller, gateway, image_id, request)
            return response

        return handle
