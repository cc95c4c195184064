"""The tools people have list the tables of their tier and run a query: psql, psycopg, ADBC, JDBC, ODBC, R's DBI."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import adbc_driver_postgresql.dbapi
import pytest
from conftest import Mirrored

from warehouse.policy import load_policy

pytestmark = pytest.mark.postgres

TABLES = set(load_policy().tiers["registered"])
QUERY = "select count(*) as subjects from dim_subject"
JDBC_JAR = Path("/usr/share/java/postgresql.jar")

JAVA = """
import java.sql.*;
public class Tables {
    public static void main(String[] a) throws Exception {
        try (Connection c = DriverManager.getConnection(System.getenv("URL"), "alice", System.getenv("PGPASSWORD"))) {
            ResultSet r = c.getMetaData().getTables(null, "release", "%", new String[] {"TABLE"});
            while (r.next()) System.out.println("table " + r.getString("TABLE_NAME") + "|" + r.getString("REMARKS"));
            r = c.getMetaData().getColumns(null, "release", "fct_visit", "%");
            while (r.next()) System.out.println("column " + r.getString("COLUMN_NAME") + "|" + r.getString("REMARKS"));
            r = c.createStatement().executeQuery(a[0]);
            while (r.next()) System.out.println("rows " + r.getLong(1));
        }
    }
}
"""

R = """
suppressMessages(library(RPostgreSQL))
con <- dbConnect(PostgreSQL())
for (name in dbListTables(con)) cat("table", name, "\\n")
cat("rows", dbGetQuery(con, "select count(*) as n from dim_subject")$n, "\\n")
invisible(dbDisconnect(con))
"""


def environment(mirrored: Mirrored) -> dict[str, str]:
    """What alice sets."""
    return mirrored.server.environment | {
        "PGUSER": "alice",
        "PGPASSWORD": mirrored.passwords["alice"],
        "PGDATABASE": mirrored.databases["registered"],
    }


def run(mirrored: Mirrored, command: list[str], *, stdin: str | None = None, **more: str) -> str:
    done = subprocess.run(
        command, input=stdin, env=os.environ | environment(mirrored) | more, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def subjects(mirrored: Mirrored) -> int:
    with mirrored.connect("alice", "registered") as connection:
        row = connection.execute(QUERY).fetchone()
    assert row is not None
    assert row[0] > 0
    return int(row[0])


def needs(program: str) -> str:
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"{program} is not installed")
    return found


def test_psql_lists_and_describes(mirrored: Mirrored) -> None:
    psql = needs("psql")
    listed = run(mirrored, [psql, "-XAt", "-c", "\\d"])
    assert {line.split("|")[1] for line in listed.splitlines() if line.startswith("release|")} == TABLES
    described = run(mirrored, [psql, "-X", "-c", "\\d+ fct_visit", "-c", "\\dn+", "-c", "\\l", "-c", "\\dt+"])
    assert "Expanded Disability Status Scale" in described
    assert '"fct_visit_pkey" PRIMARY KEY' in described
    assert "Release 2026-" in described
    assert run(mirrored, [psql, "-XAt", "-c", QUERY]).strip() == str(subjects(mirrored))


def test_adbc_lists_and_reads_arrow(mirrored: Mirrored) -> None:
    server = mirrored.server
    uri = (
        f"postgresql://alice:{mirrored.passwords['alice']}@127.0.0.1:{server.port}/{mirrored.databases['registered']}"
        f"?sslmode=verify-full&sslrootcert={server.folder}/root.crt"
    )
    with adbc_driver_postgresql.dbapi.connect(uri) as connection, connection.cursor() as cursor:
        catalogs = connection.adbc_get_objects(depth="tables", db_schema_filter="release").read_all().to_pylist()
        (schemas,) = [c["catalog_db_schemas"] for c in catalogs if c["catalog_db_schemas"]]
        assert {t["table_name"] for t in schemas[0]["db_schema_tables"] if t["table_type"] == "table"} == TABLES
        cursor.execute(QUERY)
        assert cursor.fetch_arrow_table().column("subjects").to_pylist() == [subjects(mirrored)]


def test_jdbc_lists_tables_and_columns_with_their_meaning(mirrored: Mirrored, tmp_path: Path) -> None:
    java = needs("java")
    needs("javac")
    if not JDBC_JAR.is_file():
        pytest.skip("libpostgresql-jdbc-java is not installed")
    (tmp_path / "Tables.java").write_text(JAVA)
    server = mirrored.server
    url = (
        f"jdbc:postgresql://127.0.0.1:{server.port}/{mirrored.databases['registered']}"
        f"?sslmode=verify-full&sslrootcert={server.folder}/root.crt"
    )
    said = run(mirrored, [java, "-cp", str(JDBC_JAR), str(tmp_path / "Tables.java"), QUERY], URL=url).splitlines()
    found = dict(line.split(" ", 1)[1].split("|") for line in said if "|" in line and line.startswith("table"))
    assert found == {name: table.description for name, table in load_policy().tiers["registered"].items()}
    columns = dict(line.split(" ", 1)[1].split("|", 1) for line in said if line.startswith("column"))
    assert list(columns) == [column.name for column in load_policy().tiers["registered"]["fct_visit"].columns]
    assert "null" not in columns.values()
    assert f"rows {subjects(mirrored)}" in said


def test_odbc_lists_tables(mirrored: Mirrored, tmp_path: Path) -> None:
    isql = needs("isql")
    drivers = sorted(Path("/usr/lib").glob("*/odbc/psqlodbcw.so"))
    if not drivers:
        pytest.skip("odbc-postgresql is not installed")
    server = mirrored.server
    (tmp_path / "odbc.ini").write_text(
        f"[mirror]\nDriver = {drivers[0]}\nServername = 127.0.0.1\nPort = {server.port}\nUsername = alice\n"
        f"Database = {mirrored.databases['registered']}\nPassword = {mirrored.passwords['alice']}\n"
        f"SSLmode = verify-full\nPqopt = sslrootcert={server.folder}/root.crt\n"
    )
    # `help` without a name is SQLTables.
    said = run(mirrored, [isql, "mirror", "-b", "-d|"], stdin=f"help\n{QUERY}\n", ODBCINI=str(tmp_path / "odbc.ini"))
    rows = [line.split("|") for line in said.splitlines()]
    assert {row[2] for row in rows if len(row) > 3 and row[1] == "release"} == TABLES
    assert str(subjects(mirrored)) in said.splitlines()


def test_r_lists_and_reads(mirrored: Mirrored, tmp_path: Path) -> None:
    rscript = needs("Rscript")
    if subprocess.run([rscript, "-e", "library(RPostgreSQL)"], capture_output=True, check=False).returncode:
        pytest.skip("r-cran-rpostgresql is not installed")
    (tmp_path / "tables.R").write_text(R)
    said = [line.split() for line in run(mirrored, [rscript, str(tmp_path / "tables.R")]).splitlines()]
    assert {words[1] for words in said if words[:1] == ["table"]} >= TABLES
    assert ["rows", str(subjects(mirrored))] in said
