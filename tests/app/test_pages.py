"""The pages' shells and files: they answer, are whole, load nothing from elsewhere and run nothing inline."""

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import quote, urljoin

import httpx
import pytest

from app.routes.pages import STATIC, static_path
from tests.app.serving import Running, assert_problem, running, settings_in

PAGES = (
    "/",
    "/docs",
    "/ui/comparisons",
    "/ui/comparisons/cmp_01jd8zq4m3v6x9n2k5t7w0y1ab",
    "/ui/datasets",
    "/ui/jobs/job_01jd8zq4m3v6x9n2k5t7w0y1ab",
    "/ui/models/digits-cnn",
)
OURS = sorted(path for path in STATIC.rglob("*") if path.is_file() and "vendor" not in path.parts)
MARKUP = '"><script>alert(1)</script><b onclick="x">'


class Page(HTMLParser):
    """What matters of a page's markup."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.inline = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1][0] in ("script", "style"):
            self.inline += data.strip()

    @property
    def ids(self) -> list[str]:
        return [attributes["id"] or "" for _, attributes in self.tags if "id" in attributes]

    @property
    def loaded(self) -> list[str]:
        """Addresses that the browser fetches by itself."""
        of = {"script": "src", "link": "href", "img": "src", "iframe": "src"}
        return [
            attributes[of[tag]] or "" for tag, attributes in self.tags if tag in of and of[tag] in attributes
        ]


@pytest.fixture(params=PAGES)
def answer(request: pytest.FixtureRequest, client: httpx.Client) -> httpx.Response:
    answer = client.get(request.param)
    assert answer.status_code == 200
    return answer


@pytest.fixture
def page(answer: httpx.Response) -> Page:
    return Page(answer.text)


def test_a_page_is_html_and_only_our_own_files_may_run_in_it(answer: httpx.Response) -> None:
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    policy = dict(part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["connect-src"] == "'self'"
    assert policy["style-src"] == ("'self' 'unsafe-inline'" if answer.url.path == "/docs" else "'self'")
    assert "unsafe" not in policy["default-src"] + policy["script-src"]


def test_a_page_has_nothing_inline(page: Page) -> None:
    assert page.inline == ""
    for tag, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on") or name == "style"], tag


def test_everything_a_page_loads_is_there_and_ours(page: Page, client: httpx.Client) -> None:
    assert any(address.endswith(".css") for address in page.loaded)
    for address in reached(page, client):
        assert address.startswith(static_path() + "/"), address
        answer = client.get(address)
        assert answer.status_code == 200, address
        assert "immutable" in answer.headers["cache-control"]


def test_every_element_that_a_script_asks_for_is_on_its_page(page: Page, client: httpx.Client) -> None:
    assert len(page.ids) == len(set(page.ids))
    for address in reached(page, client):
        if address.endswith(".js") and "/vendor/" not in address:
            wanted = set(re.findall(r'\$\("([^"]+)"\)', client.get(address).text))
            assert wanted <= set(page.ids), address


def test_labels_name_fields_that_exist(page: Page) -> None:
    for tag, attributes in page.tags:
        named = attributes.get("for") if tag == "label" else attributes.get("aria-labelledby")
        assert named is None or named in page.ids, (tag, named)


def reached(page: Page, client: httpx.Client) -> Iterator[str]:
    """The page's files, and what those import."""
    waiting, seen = list(page.loaded), set[str]()
    while waiting:
        address = waiting.pop()
        if address in seen:
            continue
        seen.add(address)
        yield address
        if address.endswith(".js") and "/vendor/" not in address:
            imported = re.findall(r'^import .* from "(.+)";$', client.get(address).text, re.MULTILINE)
            waiting += [urljoin(address, name) for name in imported]


@pytest.mark.parametrize("path", PAGES)
def test_a_page_answers_head(path: str, client: httpx.Client) -> None:
    answer = client.head(path)
    assert answer.status_code == 200
    assert answer.content == b""


def test_another_method_is_refused_as_everywhere(client: httpx.Client) -> None:
    assert_problem(client.post("/"), 405, None, "GET and HEAD do")


@pytest.mark.parametrize("folder", ["comparisons", "jobs", "models"])
def test_what_stands_in_the_address_stays_text(folder: str, client: httpx.Client) -> None:
    page = Page(client.get(f"/ui/{folder}/{quote(MARKUP.replace('/', '-'))}").text)
    assert page.inline == ""
    assert not any("onclick" in attributes for _, attributes in page.tags)
    (subject,) = [
        attributes[f"data-{folder[:-1]}"]
        for _, attributes in page.tags
        if f"data-{folder[:-1]}" in attributes
    ]
    assert subject == MARKUP.replace("/", "-")


@pytest.mark.parametrize("file", OURS, ids=lambda file: file.name)
def test_our_files_ask_nobody_else(file: Path) -> None:
    text = re.sub(r"/\*.*?\*/", "", file.read_text(), flags=re.DOTALL).replace(
        "http://www.w3.org/2000/svg", ""
    )
    assert not re.search(r"https?:|[\"'(]//", text)


@pytest.mark.parametrize("file", [file for file in OURS if file.suffix == ".js"], ids=lambda file: file.name)
def test_scripts_make_no_markup_from_text(file: Path) -> None:
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", file.read_text()
    )


def test_files_of_another_version_are_not_there(client: httpx.Client) -> None:
    assert_problem(client.get("/ui/static/000000000000/tandem.css"), 404)


@pytest.mark.parametrize("path", ["..%2f..%2fmain.py", "../../main.py", "%2fetc%2fhostname", "js", ""])
def test_only_the_pages_files_are_served(path: str, server: Running) -> None:
    host, port = server.address[:2]
    connection = HTTPConnection(host, port, timeout=10)  # httpx would tidy the path up
    connection.request("GET", f"{static_path()}/{path}")
    assert connection.getresponse().status == 404
    connection.close()


def test_the_vendored_chart_is_the_version_that_its_note_says() -> None:
    (version,) = re.findall(r"\(v([\d.]+)\)", (STATIC / "vendor/uplot/uPlot.iife.min.js").read_text()[:200])
    assert f"| {version} |" in (STATIC / "vendor/README.md").read_text()
    assert "MIT" in (STATIC / "vendor/uplot/LICENSE").read_text()


def test_pages_are_shown_to_those_who_still_have_to_enter_the_key(tmp_path: Path) -> None:
    with running(settings_in(tmp_path, api_key="hush")) as server:
        for path in PAGES:
            assert server.client.get(path).status_code == 200
        assert server.client.get(f"{static_path()}/tandem.css").status_code == 200
        assert server.client.get("/jobs").status_code == 401


def test_pages_are_not_part_of_the_api(client: httpx.Client) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    assert not [path for path in paths if path == "/" or path.startswith("/ui")]
