"""The gateway over HTTP: who gets which rows, in which format; what is refused; that it lives on after each attempt."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import polars as pl
import pyarrow as pa
import pytest
import yaml
from escapes import MOST_ROWS, Reply, attempts, filled, leaks, plant
from network import Lake
from serving import Served, copy_release, serving

from warehouse import audit
from warehouse.users import User, add_user, issue_token, revoke_token, revoke_user


@pytest.fixture(scope="module")
def served(released: Lake, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    home = copy_release(released.home, tmp_path_factory.mktemp("served") / "home", queries_at_once=3, seconds=5)
    with serving(home) as running:
        yield running


COUNT = "select count(*) as n from dim_subject"


def test_each_person_gets_their_tier_and_no_other(served: Served) -> None:
    assert served.ask(COUNT, "rita").json() == [{"n": 20}]
    assert served.ask(COUNT, "stew").json() == [{"n": 26}]
    assert served.ask(COUNT, "sita").json() == [{"n": 10}]
    assert served.ask("select 1 as one", None).json() == [{"one": 1}]
    for name, fields in (
        ("rita", {"tier": "steward"}),
        ("rita", {"tier": "site", "site": "AA"}),
        ("rita", {"tier": "controlled", "project": "steps"}),
        ("sita", {"site": "BB"}),
        ("stew", {"tier": "registered"}),
    ):
        refused = served.ask(COUNT, name, **fields)
        assert refused.status_code == 403 and "no grant" in refused.json()["error"], (name, fields)
    assert served.ask(COUNT, None, tier="registered").status_code == 401


def test_every_format_holds_the_same_rows(served: Served) -> None:
    sql = "select subject_key, visit_number, edss, visit_type from fct_visit order by subject_key, visit_number"
    arrow = pa.ipc.open_stream(served.ask(sql, format="arrow").content).read_all()
    frame = pl.DataFrame(arrow)
    assert frame.height > 10
    assert pl.read_parquet(io.BytesIO(served.ask(sql, format="parquet").content)).equals(frame)
    assert pl.read_csv(served.ask(sql, format="csv").content, schema=frame.schema).equals(frame)
    assert pl.DataFrame(served.ask(sql, format="json").json(), schema=frame.schema).equals(frame)


@pytest.mark.parametrize(
    ("accept", "media"),
    [
        ("*/*", "application/json"),
        ("text/csv", "text/csv; charset=utf-8"),
        ("application/vnd.apache.parquet", "application/vnd.apache.parquet"),
        ("application/json;q=0.1, application/vnd.apache.arrow.stream", "application/vnd.apache.arrow.stream"),
        ("text/*, application/json;q=0.5", "text/csv; charset=utf-8"),
    ],
)
def test_the_accept_header_chooses(served: Served, accept: str, media: str) -> None:
    with served.client("rita") as client:
        found = client.post("/v1/sql", json={"sql": "select 1 as a"}, headers={"Accept": accept})
    assert (found.status_code, found.headers["content-type"]) == (200, media)


def test_values_of_every_kind_reach_the_asker(served: Served) -> None:
    sql = (
        "select sum(9007199254740993) as big, 1.5::decimal(9,2) as dec, interval 3 month as span, 'é\n\"' as text,"
        " null as none,"
        " [1, 2] as list, {'a': 1} as struct, date '2026-01-02' as day, timestamp '2026-01-02 03:04:05' as moment,"
        " 1 as twice, 2 as twice, true as yes from (select 1)"
    )
    (row,) = served.ask(sql).json()
    assert row["big"] == 9007199254740993 and row["dec"] == 1.5 and row["text"] == 'é\n"' and row["none"] is None
    assert row["list"] == [1, 2] and row["struct"] == {"a": 1} and row["day"] == "2026-01-02"
    assert row["moment"].startswith("2026-01-02T03:04:05") and (row["twice"], row["twice_1"]) == (1, 2)
    for format in ("csv", "parquet", "arrow"):
        assert served.ask(sql, format=format).status_code == 200, format
    nothing = served.ask("select edss from fct_visit where edss > 99")
    assert nothing.json() == [] and json.loads(nothing.headers["ranvier-columns"]) == ["edss"]
    assert served.ask("select edss from fct_visit where edss > 99", format="csv").text == '"edss"\n'


def test_a_limit_cuts_and_the_release_is_told(served: Served) -> None:
    found = served.ask("select * from fct_visit", limit=3)
    assert len(found.json()) == 3
    assert found.headers["ranvier-release"] == "2026-11-24.1"
    assert served.ask("select 1", release="2026-11-24.1").status_code == 200
    assert served.ask("select 1", release="1999-01-01.1").status_code == 404


LONG = "select a.subject_key from fct_visit as a, fct_visit as b, fct_visit as c, fct_visit as d"


def test_a_long_answer_streams_and_its_process_is_free_when_the_asker_leaves(served: Served) -> None:
    with (
        served.client("rita") as client,
        client.stream("POST", "/v1/sql", json={"sql": LONG, "tier": "registered", "format": "arrow"}) as found,
    ):
        assert next(found.iter_bytes())
    for _ in range(6):  # more than the processes of a file, and than one person's queries at once
        assert served.ask("select 1 as a").json() == [{"a": 1}]
    end = time.monotonic() + 20
    while audit.entries(served.home)[-7]["outcome"] != "abandoned":
        assert time.monotonic() < end
        time.sleep(0.1)


def test_an_answer_that_breaks_on_the_way_is_not_taken_for_whole(served: Served) -> None:
    """The time limit comes while rows are sent: the connection breaks instead of ending well."""
    sql = "select a.subject_key as k from " + ", ".join(f"fct_visit as {name}" for name in "abcde")
    with pytest.raises(httpx.RemoteProtocolError):
        served.ask(sql, format="arrow")


def test_somebody_who_hangs_up_stops_the_query(served: Served) -> None:
    sql = "select count(*) as n from " + ", ".join(f"fct_visit as v{i}" for i in range(8))
    with served.client("other") as client, pytest.raises(httpx.ReadTimeout):
        client.post("/v1/sql", json={"sql": sql, "tier": "registered"}, timeout=1)
    begun = time.monotonic()
    while audit.entries(served.home)[-1]["outcome"] == "unfinished":
        assert time.monotonic() - begun < 3  # the limit of 5 seconds did not end it
        time.sleep(0.05)


def test_one_person_runs_so_many_at_once(served: Served) -> None:
    sql = "select count(*) as n from " + ", ".join(f"fct_visit as v{i}" for i in range(8))
    answers: list[httpx.Response] = []
    threads = [threading.Thread(target=lambda: answers.append(served.ask(sql, "rita"))) for _ in range(5)]
    for thread in threads:
        thread.start()
    time.sleep(1)
    assert served.ask("select 1 as a", "sita").json() == [{"a": 1}]
    for thread in threads:
        thread.join()
    codes = sorted(answer.status_code for answer in answers)
    assert codes == [400, 400, 400, 429, 429]
    assert all(answer.headers["retry-after"] == "1" for answer in answers if answer.status_code == 429)


def test_tables_dictionary_releases(served: Served) -> None:
    with served.client("rita") as client:
        found = client.get("/v1/tables", params={"tier": "registered"}).json()
        assert found["release"] == "2026-11-24.1"
        visit = next(table for table in found["tables"] if table["name"] == "fct_visit")
        assert {"edss", "visit_year"} <= {column["name"] for column in visit["columns"]}
        assert "visit_date" not in json.dumps(found) and visit["description"]
        assert client.get("/v1/tables", params={"tier": "steward"}).status_code == 403
        (edss,) = client.get("/v1/dictionary", params={"name": "edss"}).json()
        assert edss["tier"] and edss["definition"]
        assert client.get("/v1/dictionary", params={"name": "nope"}).status_code == 404
        assert [(r["version"], r["is_current"]) for r in client.get("/v1/releases").json()] == [("2026-11-24.1", True)]


def test_the_pages_ask_nobody_else(served: Served) -> None:
    with served.client() as client:
        for address in ("/", "/docs", "/page/app.js", "/page/docs.js", "/page/style.css"):
            found = client.get(address)
            assert found.status_code == 200
            assert "default-src 'none'" in found.headers["content-security-policy"]
            assert "unsafe" not in found.headers["content-security-policy"]
            assert "http://" not in found.text and "https://" not in found.text and "style=" not in found.text
        page = client.get("/").text
        assert "<script>" not in page and "onclick" not in page and 'lang="en"' in page


def test_taking_back_acts_on_the_next_request(served: Served) -> None:
    add_user(served.home, User("guest", "registered"))
    served.tokens["guest"], token = issue_token(served.home, "guest")
    assert served.ask("select 1", "guest", tier="registered").status_code == 200
    revoke_token(served.home, token.token_id)
    assert served.ask("select 1", "guest", tier="registered").status_code == 401
    served.tokens["guest"], _ = issue_token(served.home, "guest")
    assert served.ask("select 1", "guest", tier="registered").status_code == 200
    revoke_user(served.home, "guest")
    assert served.ask("select 1", "guest", tier="registered").status_code == 401


def test_every_question_is_in_the_audit_log_under_its_asker(served: Served) -> None:
    served.ask("select edss from fct_visit where subject_key = 'S-1234'")
    entry = audit.entries(served.home)[-1]
    assert (entry["user"], entry["tier"], entry["outcome"]) == ("rita", "registered", "answered")
    assert "1234" not in json.dumps(entry)
    served.ask("select 1", None)
    assert audit.entries(served.home)[-1]["user"] == "anonymous@127.0.0.1"
    assert audit.verify(served.home).is_whole


def request(*lines: str | bytes, body: bytes = b"") -> bytes:
    head = [line if isinstance(line, bytes) else line.encode("latin-1") for line in lines]
    return b"\r\n".join([*head, b"", body])


QUESTION = b'{"sql": "select count(*) as n from fct_finding", "tier": "steward"}'
HEAD = ("POST /v1/sql HTTP/1.1", "Host: x", "Content-Type: application/json", "Connection: close")
SIZED = f"Content-Length: {len(QUESTION)}"
Attempt = Callable[[Served], bytes]


def asks(name: str | None = "rita", headers: dict[str, str] | None = None, **fields: object) -> Attempt:
    """A question as JSON, with fields and headers of the attempt."""

    def attempt(served: Served) -> bytes:
        body = {"sql": "select count(*) as n from fct_finding", "tier": "steward"} | fields
        with served.client(name) as client:
            return _shown(client.post("/v1/sql", json=body, headers=headers))

    return attempt


def gets(address: str, name: str | None = "rita") -> Attempt:
    def attempt(served: Served) -> bytes:
        with served.client(name) as client:
            return _shown(client.get(address))

    return attempt


def sends(*lines: str | bytes, body: bytes = QUESTION) -> Attempt:
    def attempt(served: Served) -> bytes:
        token = served.tokens["rita"].encode()
        return served.raw(request(*lines, body=body).replace(b"RITA", token))

    return attempt


def _shown(found: httpx.Response) -> bytes:
    return f"HTTP/1.1 {found.status_code} \r\n\r\n".encode() + found.content


def forged(change: Callable[[str], str]) -> Attempt:
    def attempt(served: Served) -> bytes:
        header = change(served.tokens["stew"])
        return asks(None, {"Authorization": header})(served)

    return attempt


def expired(served: Served) -> bytes:
    from dataclasses import replace
    from datetime import date

    from warehouse import users

    add_user(served.home, User("late", "steward"))
    served.tokens["late"], token = issue_token(served.home, "late")
    with users._changing(served.home) as (_, tokens):
        tokens[:] = [replace(t, until=date(2020, 1, 1)) if t.token_id == token.token_id else t for t in tokens]
    return asks("late")(served)


def grant_over(served: Served) -> bytes:
    from datetime import date

    add_user(served.home, User("gone", "registered"))
    add_user(served.home, User("gone", "steward", until=date(2020, 1, 1)))
    served.tokens["gone"], _ = issue_token(served.home, "gone")
    return asks("gone")(served)


def slow_headers(served: Served) -> bytes:
    begun = time.monotonic()
    with socket.create_connection(("127.0.0.1", served.port), timeout=30) as connection:
        connection.sendall(b"POST /v1/sql HTTP/1.1\r\nHost: x\r\n")
        try:
            while time.monotonic() - begun < 25:
                connection.sendall(b"X-A: b\r\n")
                time.sleep(0.5)
        except OSError:
            assert time.monotonic() - begun < 15
            return b"HTTP/1.1 408 \r\n\r\n"
    return b"HTTP/1.1 200 still open"


def endless_header(served: Served) -> bytes:
    return served.raw(b"GET /health HTTP/1.1\r\nHost: x\r\nX-A: " + b"a" * 200_000)


def many_headers(served: Served) -> bytes:
    lines = b"".join(b"X-%d: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n" % number for number in range(5000))
    return served.raw(b"GET /health HTTP/1.1\r\nHost: x\r\n" + lines)


def huge_body(served: Served) -> bytes:
    with served.client("rita") as client:
        return _shown(client.post("/v1/sql", content=b'{"sql": "' + b"x" * 3_000_000))


def chunks_without_end(served: Served) -> bytes:
    piece = b"10000\r\n" + b" " * 65536 + b"\r\n"
    return served.raw(request(*HEAD, "Transfer-Encoding: chunked", body=piece * 20))


DEEP = b'{"sql": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
ATTEMPTS: dict[str, Attempt] = {
    "another's tier": asks(),
    "no token": asks(None),
    "a token of one's own making": forged(lambda _: "Bearer rvn_" + "0" * 12 + "_" + "A" * 43),
    "a real id with another secret": forged(lambda token: "Bearer " + token[:17] + "A" * 43),
    "a token cut short": forged(lambda token: "Bearer " + token[:-1]),
    "a token and more": forged(lambda token: "Bearer " + token + "A"),
    "the token's id alone": forged(lambda token: "Bearer " + token[:16]),
    "basic authentication": forged(lambda token: "Basic " + token),
    "an argon2 hash as the token": forged(lambda _: "Bearer $argon2id$v=19$m=19456,t=2,p=1$AAAA$AAAA"),
    "an empty token": forged(lambda _: "Bearer"),
    "a JSON web token without signature": forged(lambda _: "Bearer eyJhbGciOiJub25lIn0.eyJ0aWVyIjoic3Rld2FyZCJ9."),
    "an expired token": expired,
    "a grant that is over": grant_over,
    "two tokens": sends(*HEAD, SIZED, "Authorization: Bearer RITA", "Authorization: Bearer x"),
    "two hosts": sends(*HEAD, SIZED, "Host: y", "Authorization: Bearer RITA"),
    "two lengths": sends(*HEAD, SIZED, "Content-Length: 5"),
    "length and chunks": sends(*HEAD, SIZED, "Transfer-Encoding: chunked", body=b"0\r\n\r\nGET / HTTP/1.1\r\n\r\n"),
    "chunks, obscured": sends(*HEAD, SIZED, "Transfer-Encoding: xchunked"),
    "chunks with a space before the colon": sends(*HEAD, SIZED, "Transfer-Encoding : chunked"),
    "a length with a sign": sends(*HEAD, "Content-Length: +5"),
    "a negative length": sends(*HEAD, "Content-Length: -1"),
    "a folded header": sends(*HEAD, SIZED, "X-A: b", " Authorization: Bearer RITA"),
    "a line feed inside a header": sends(*HEAD, SIZED, b"X-A: b\nAuthorization: Bearer RITA"),
    "a NUL inside a header": sends(*HEAD, SIZED, b"Authorization: Bearer RITA\0"),
    "tier in a header": asks(headers={"X-Tier": "steward", "X-User": "stew", "X-Forwarded-User": "stew"}),
    "address of the machine itself": asks(None, headers={"X-Forwarded-For": "127.0.0.1", "Forwarded": "for=127.0.0.1"}),
    "another method by header": sends(
        "GET /v1/sql HTTP/1.1", "Host: x", "X-HTTP-Method-Override: POST", SIZED, "Connection: close"
    ),
    "another method": sends("PUT /v1/sql HTTP/1.1", "Host: x", SIZED, "Connection: close"),
    "trace": sends("TRACE /v1/sql HTTP/1.1", "Host: x", "Authorization: Bearer RITA", "Connection: close", body=b""),
    "connect": sends("CONNECT localhost:22 HTTP/1.1", "Host: x", "Connection: close", body=b""),
    "a proxy's request": sends(
        "GET http://localhost/v1/tables?tier=steward HTTP/1.1", "Host: x", "Connection: close", body=b""
    ),
    "a websocket": sends(
        "GET /v1/sql HTTP/1.1", "Host: x", "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", body=b"",
    ),
    "upgrade to HTTP/2": sends(
        *HEAD[:-1], SIZED, "Upgrade: h2c", "Connection: Upgrade, HTTP2-Settings", "HTTP2-Settings: AAMAAABk"
    ),
    "HTTP/2 from the first byte": lambda served: served.raw(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    "HTTP/0.9": lambda served: served.raw(b"GET /v1/tables?tier=steward\r\n\r\n"),
    "a path as the tier": asks(tier="../steward"),
    "a path as the site": asks(tier="site", site="../steward"),
    "a path as the site, in code": asks(tier="site", site="..%2Fsteward"),
    "a path as the project": asks(tier="controlled", project="../steward"),
    "a file with an ending as the project": asks(tier="controlled", project="steward.duckdb"),
    "a NUL in the project": asks(tier="controlled", project="steps\0"),
    "a path as the release": asks(release="../../lake"),
    "the symlink as the release": asks(release="current"),
    "a build as the release": asks(release=".build-2026-11-24.2"),
    "a number too large as the release": asks(release="2026-11-24.99999999999999999999"),
    "a line feed after the site": asks(tier="site", site="AA\n"),
    "another site": asks("sita", tier="site", site="BB"),
    "a site beside a tier": asks(tier="registered", site="AA"),
    "a list of tiers": asks(tier=["registered", "steward"]),
    "unknown fields": asks(tier="registered", user="stew", path="/etc/passwd"),
    "the tier given twice": sends(
        *HEAD, "Content-Length: 72", "Authorization: Bearer RITA",
        body=b'{"sql": "select * from fct_finding", "tier":"registered","tier":"steward"}'[:72],
    ),
    "tables of another tier": gets("/v1/tables?tier=steward"),
    "tables of two tiers": gets("/v1/tables?tier=registered&tier=steward"),
    "tables of a path": gets("/v1/tables?tier=site&site=../steward"),
    "a path in the address": gets("/page/../../app.py"),
    "a path in the address, in code": gets("/page/%2e%2e/%2e%2e/etc/passwd"),
    "a path in the address, in code twice": gets("/page/%252e%252e/app.py"),
    "a path with backslashes": gets("/page/..%5c..%5capp.py"),
    "a NUL in the address": gets("/page/app.js%00.html"),
    "the release's file": gets("/releases/2026-11-24.1/steward.duckdb"),
    "a path in the dictionary": gets("/v1/dictionary?name=../../access/users.json"),
    "a header in a parameter": gets("/v1/dictionary?name=x%0d%0aSet-Cookie:%20a=b"),
    "no format at all": asks(tier="registered", headers={"Accept": "image/png"}),
    "a broken accept header": asks(tier="registered", headers={"Accept": ";;;q=x,,,/*/"}),
    "not JSON": sends(*HEAD, "Content-Length: 9", "Authorization: Bearer RITA", body=b"sql=x;y=z"),
    "JSON as a form": sends(
        HEAD[0], "Host: x", "Connection: close", "Content-Type: application/x-www-form-urlencoded", SIZED,
        "Authorization: Bearer RITA",
    ),
    "JSON in another encoding": sends(
        *HEAD, "Content-Length: 134", "Authorization: Bearer RITA", body=QUESTION.decode().encode("utf-16")[:134]
    ),
    "a tower of brackets": sends(*HEAD, f"Content-Length: {len(DEEP)}", "Authorization: Bearer RITA", body=DEEP),
    "a number without end": sends(
        *HEAD, "Content-Length: 100024", "Authorization: Bearer RITA",
        body=b'{"sql": "x", "limit": ' + b"9" * 100_001 + b"}",
    ),
    "a body packed small": asks(tier="registered", headers={"Content-Encoding": "gzip"}, sql="\x1f\x8b"),
    "half a surrogate": sends(
        *HEAD, "Content-Length: 40", "Authorization: Bearer RITA",
        body=b'{"sql": "\\ud800", "tier": "registered"}  '[:40],
    ),
    "a huge body": huge_body,
    "chunks without end": chunks_without_end,
    "a header without end": endless_header,
    "headers without number": many_headers,
    "headers that never end, slowly": slow_headers,
}  # fmt: skip


@pytest.mark.parametrize("name", ATTEMPTS)
def test_an_attempt_over_http_shows_nothing_and_harms_nobody(served: Served, name: str) -> None:
    before = served.ask(COUNT, "sita").json(), served.workers("site/AA")
    answer = ATTEMPTS[name](served)
    head, _, body = answer.partition(b"\r\n\r\n")
    status = int(head.split(b" ")[1]) if head.startswith(b"HTTP/1.1 ") else None
    # Refused, or broken off without an answer; never a row, a failure of the server, or a switch of protocol.
    assert status is None or 400 <= status < 500, answer[:300]
    for secret in (str(served.home.root).encode(), b"Traceback", b"site-packages", b"argon2", b"duckdb.", b'"n"'):
        assert secret not in body, answer[:300]
    assert served.process.poll() is None
    assert (served.ask(COUNT, "sita").json(), served.workers("site/AA")) == before
    assert served.ask("select 1 as a", "rita").json() == [{"a": 1}]


@pytest.mark.slow
def test_the_listed_attempts_get_nowhere_over_http(released: Lake, tmp_path: Path) -> None:
    """Every attempt of the list, in one test: they share a server, and somebody else asks after each."""
    planted = plant(released.home, tmp_path / "ranvier_home_5c1d")
    network = yaml.safe_load(planted.home.network_file.read_text())
    network["gateway"] = {"requests_per_minute": 1_000_000, "seconds": 1}
    planted.home.network_file.write_text(yaml.safe_dump(network))
    found = []
    with serving(planted.home) as running:
        sure = running.ask(COUNT, "sita").json(), running.workers("site/AA")
        for attempt in attempts():
            sql = filled(attempt, planted)
            try:
                answer = running.ask(sql, "rita", limit=MOST_ROWS)
            except httpx.TransportError:  # broken off while rows were sent: nothing that could be taken for whole
                reply, status = Reply(None, "broken off"), 0
            else:
                status = answer.status_code
                is_answered = status == 200
                reply = Reply(answer.text, None) if is_answered else Reply(None, answer.json()["error"])
            if shown := leaks(reply, planted, sql):
                found.append((attempt.id, shown))
            if status >= 500 or (attempt.expect == "refused" and reply.refusal is None):
                found.append((attempt.id, [f"status {status}"]))
            if (running.ask(COUNT, "sita").json(), running.workers("site/AA")) != sure:
                found.append((attempt.id, ["another tier noticed"]))
        assert running.ask("select 1 as a", "other").json() == [{"a": 1}]
    assert found == []


GUIDE = Path(__file__).parents[3] / "docs" / "analyst.md"
SECTION = GUIDE.read_text(encoding="utf-8").split("## Ask over HTTP")[1].split("\n## ")[0]
SNIPPETS = re.findall(r"```(python|bash|r)\n(.*?)```", SECTION, re.DOTALL)
R_PACKAGES = ("httr2", "arrow")


def _has_r() -> bool:
    if shutil.which("Rscript") is None:
        return False
    found = [f"requireNamespace('{name}', quietly = TRUE)" for name in R_PACKAGES]
    code = f"quit(status = if ({' && '.join(found)}) 0 else 1)"
    return subprocess.run(["Rscript", "-e", code], capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize("number", range(len(SNIPPETS)))
def test_a_snippet_of_the_guide_runs(served: Served, number: int, tmp_path: Path) -> None:
    language, code = SNIPPETS[number]
    if language == "r" and not _has_r():
        pytest.skip(f"R with the packages {', '.join(R_PACKAGES)} is not installed here")
    command = {"python": [sys.executable, "-c"], "bash": ["bash", "-euc"], "r": ["Rscript", "-e"]}[language]
    environment = os.environ | {"RANVIER_URL": served.url, "RANVIER_TOKEN": served.tokens["rita"]}
    done = subprocess.run(
        [*command, code], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    if language == "bash":
        assert pl.read_parquet(tmp_path / "visits.parquet").height > 10


def test_the_guide_has_a_snippet_for_each_client() -> None:
    assert [language for language, _ in SNIPPETS] == ["bash", "python", "python", "python", "r"]
