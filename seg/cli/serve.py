"""seg serve: serve a web page and an API for a model."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..errors import UserError
from .options import OR_EXPORTED, Subparsers, add_inference, add_runtime, add_verb, open_predictor


def add_parser(subparsers: Subparsers) -> None:
    """Add the parser of the verb."""
    parser = add_verb(
        subparsers,
        "serve",
        run,
        "Serve a web page and an API for a model.",
        details="POST /api/segment segments an image; /docs describes the API. By default the server is restricted to "
        "localhost. There is no authentication: with another --host, anyone who can reach the port can use it.",
        example="seg serve runs/voc_mini/best.safetensors --port 8080",
    )
    parser.add_argument("weights", metavar="WEIGHTS", help=OR_EXPORTED)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1, localhost)")
    parser.add_argument("--port", type=int, default=8000, help="port to listen on (default: 8000); 0 chooses a free port")
    add_inference(parser)
    add_runtime(parser)


def run(args: argparse.Namespace) -> int:
    """Run the verb and return the exit code."""
    try:
        from ..serve import app, server
    except ImportError as error:
        raise UserError(f"seg serve: {error}: pip install 'seg-deeplab[serve]'") from error
    with server.listen(args.host, args.port) as opened:  # before the model is loaded: a taken port is reported at once
        predictor = open_predictor(args)
        name = predictor.metadata.config.name if predictor.metadata else ""
        made = app.make_app(app.Service(predictor, name or Path(args.weights).stem))
        print(f"{args.weights}: serving at {server.address(opened)}  (press Ctrl-C to stop)", flush=True)
        server.run(made, opened, args.quiet)
    return 0
