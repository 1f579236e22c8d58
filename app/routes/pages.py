"""The web pages under `/`: one HTML shell each; what they show, the browser asks of the JSON API."""

from hashlib import sha256
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse
from starlette.responses import Response
from starlette.staticfiles import StaticFiles

from app.templates import templates
from models.engine import is_installed
from models.errors import NotFound

STATIC = Path(__file__).parents[1] / "web" / "static"
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
    )
)
"""Everything comes from here, and nothing that the API says can become a script."""
DOCS_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
"""Swagger UI writes styles and icons into its page; scripts and requests stay here too."""
A_YEAR_S = 365 * 24 * 3600

router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)


def _digest() -> str:
    """A name for what the files hold now: under it, browsers may keep them for good."""
    digest = sha256()
    for file in sorted(file for file in STATIC.rglob("*") if file.is_file()):
        digest.update(file.relative_to(STATIC).as_posix().encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:12]


def static_path() -> str:
    """Where the files are."""
    return f"/ui/static/{DIGEST}"


DIGEST = _digest()
files = StaticFiles(directory=STATIC)


@router.get("/")
def overview() -> Response:
    return _page("overview", "Tandem", here="/")


@router.get("/ui/jobs/{job_id}")
def job(job_id: str) -> Response:
    return _page("job", f"{job_id} · Tandem", subject=job_id)


@router.get("/ui/models/{name}")
def model(name: str) -> Response:
    return _page("model", f"{name} · Tandem", subject=name, openvino=is_installed("openvino"))


@router.get("/ui/comparisons")
def comparisons() -> Response:
    return _page("comparisons", "Comparisons · Tandem", here="/ui/comparisons")


@router.get("/ui/comparisons/{comparison_id}")
def comparison(comparison_id: str) -> Response:
    return _page("comparison", f"{comparison_id} · Tandem", subject=comparison_id)


@router.get("/ui/datasets")
def datasets() -> Response:
    return _page("datasets", "Datasets · Tandem", here="/ui/datasets")


@router.get("/docs")
def docs() -> Response:
    """Swagger UI, from here: a server without the internet shows it too."""
    return _page("docs", "The API · Tandem", policy=DOCS_POLICY, here="/docs")


@router.get("/ui/static/{digest}/{file:path}")
async def static_file(digest: str, file: str, request: Request) -> Response:
    """A file of the pages. It never changes under its address, so browsers keep it."""
    if digest != DIGEST:
        raise NotFound("This page is from another version of Tandem. Load it again.")
    response = await files.get_response(file, request.scope)
    response.headers["Cache-Control"] = f"public, max-age={A_YEAR_S}, immutable"
    return response


def _page(name: str, title: str, here: str = "", policy: str = POLICY, **values: Any) -> Response:
    """The shell of a page: its template, and the module of its name that fills it."""
    template = templates().get_template(f"{name}.html")
    html = template.render(title=title, here=here, module=name, static=static_path(), **values)
    return HTMLResponse(html, headers={"Content-Security-Policy": policy})
