"""`ranvier serve`: the warehouse over HTTP."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated

import typer

from orchestration.commands import HomeOption, out
from warehouse.errors import HomeError
from warehouse.home import find_home

app = typer.Typer()


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@app.command()
def serve(
    home: HomeOption = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.", min=1, max=65535)] = 8443,
    tls_cert: Annotated[Path | None, typer.Option(help="Certificate chain, PEM.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Its private key, PEM.")] = None,
    behind_proxy: Annotated[
        str | None,
        typer.Option(help="Address of the reverse proxy that does TLS; its X-Forwarded-For is believed, no other's."),
    ] = None,
) -> None:
    """Serve SQL over HTTP. Example: ranvier serve --host 0.0.0.0 --tls-cert server.pem --tls-key server.key"""
    if (tls_cert is None) != (tls_key is None):
        raise HomeError("TLS needs both: --tls-cert FILE --tls-key FILE")
    for file in (tls_cert, tls_key):
        if file is not None and not file.is_file():
            raise HomeError(f"There is no file {file}; give the certificate and the key as PEM files")
    if tls_cert is None and behind_proxy is None and not _is_loopback(host):
        raise HomeError(
            f"Tokens would cross the network readable: to listen on {host}, give --tls-cert and --tls-key,"
            " or --behind-proxy ADDRESS when a reverse proxy does TLS"
        )
    import uvicorn

    from warehouse.serve.app import make_app
    from warehouse.serve.guard import Connection

    application = make_app(find_home(home))
    shown = f"[{host}]" if ":" in host else host
    out.print(f"Serving on {'https' if tls_cert else 'http'}://{shown}:{port}/ (stop with Ctrl-C)", soft_wrap=True)
    uvicorn.run(
        application,
        host=host,
        port=port,
        http=Connection,
        ws="none",
        ssl_certfile=tls_cert,
        ssl_keyfile=tls_key,
        proxy_headers=behind_proxy is not None,
        forwarded_allow_ips=behind_proxy or "",
        server_header=False,
        access_log=False,  # addresses of askers are personal data; who asked what is in the audit log
        log_level="warning",
        timeout_keep_alive=15,
        timeout_graceful_shutdown=10,
        limit_concurrency=512,
    )
